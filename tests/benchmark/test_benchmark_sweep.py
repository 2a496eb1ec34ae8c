"""What the sweep benchmark counts: sequences that go through the reference model, in each of two sweeps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from inprocess import restored, run

from alignzoo.benchmark import command
from alignzoo.benchmark.chart import sweep_table
from alignzoo.benchmark.scratch import scratch
from alignzoo.benchmark.sides import counted
from alignzoo.benchmark.sides.counted import count_sequences

pytestmark = pytest.mark.slow

WORDS = ("-m", "model=tiny", "dataset.rows=4", "train.max_steps=1", "evaluate.enabled=false", "method.beta=0.1,0.2")


@pytest.mark.long
def test_the_second_sweep_makes_no_reference_pass(tmp_path: Path, cache: Path) -> None:
    """Two answers to each of four prompts, once; without the cache they would be computed for each beta."""
    computed = []
    with scratch():
        for turn in ("first", "second"):
            with count_sequences() as sequences:
                assert run(tmp_path / turn, *WORDS).code == 0
            computed.append(sum(sequences))
    assert computed == [8, 0]


def test_a_pass_of_trls_own_is_counted_too(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignzoo.train.reference.precompute._is_trl_pass", lambda trainer: False)
    with scratch(), count_sequences() as sequences:
        assert run(tmp_path / "trls", *WORDS).code == 0
    assert sum(sequences) >= 8


def test_the_count_goes_into_the_file_that_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with restored():
        monkeypatch.setattr(sys, "argv", ["counted", "count", "--help"])
        with pytest.raises(SystemExit, match="0"):
            counted.main()
    assert [file.name for file in tmp_path.iterdir()] == ["count"]
    assert Path("count").read_text() == "0"


def test_quick_leaves_the_sweep_out() -> None:
    assert not command.PARTS["sweep"].quick
    found = {"trl": 10.0, "first": 5.0, "second": 4.0, "first_ratio": 0.5, "second_ratio": 0.4}
    table = sweep_table({**found, "first_reference": 8, "second_reference": 0})
    assert [*table.columns[2].cells] == ["1.00", "0.50", "0.40"]
    assert [*table.columns[3].cells][1:] == ["8 sequences", "0 sequences"]

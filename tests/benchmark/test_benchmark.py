"""The benchmark measures what it says, on little; how fast anything is, is not tested."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import pyarrow.parquet
import pytest

from alignzoo.benchmark.data import Memory, measure_data, write_pairs
from alignzoo.benchmark.start import COMMANDS, measure_start
from alignzoo.benchmark.steps import measure_steps
from alignzoo.benchmark.yardstick import measure_yardstick
from alignzoo.cli import run_command

pytestmark = pytest.mark.slow


def test_made_up_pairs_are_all_different(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.parquet", 12_000)
    rows = pyarrow.parquet.read_table(tmp_path / "pairs.parquet").to_pylist()
    assert len(rows) == 12_000
    assert len({row["prompt"] for row in rows}) == len({row["chosen"] for row in rows}) == 12_000
    assert all(row["chosen"] != row["rejected"] for row in rows)


@pytest.mark.long
def test_data_is_read_once_and_then_found(cache: Path) -> None:
    found = measure_data(3_000, "tiny")
    assert found["rows_per_second"] == pytest.approx(3_000 / found["seconds"])
    assert found["again"] < found["seconds"]
    assert found["memory"] > 0


def test_memory_is_that_of_the_process_and_not_of_mapped_files(tmp_path: Path) -> None:
    size = 60_000_000
    (tmp_path / "file").write_bytes(b"x" * size)
    with Memory() as mapped, (tmp_path / "file").open("rb") as file:
        assert len(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[::4096]) == size // 4096 + 1
    with Memory() as own:
        block = mmap.mmap(-1, size)  # not from the heap, which may hold as much that was freed
        assert block.write(b"x" * size) == size
    assert mapped.peak - mapped.idle < size / 2
    assert own.peak - own.idle > size / 2


def test_both_sides_of_the_step_benchmark_train_the_same(cache: Path) -> None:
    """The same token ids, settings and start weights: the losses are TRL's own."""
    found = measure_steps("tiny", rounds=1, steps=3)
    assert found["loss_difference"] < 1e-6
    assert found["ratio"] == pytest.approx(found["alignzoo"] / found["trl"])


def test_start_is_measured_for_each_command() -> None:
    found = measure_start(1)
    assert found.keys() == COMMANDS.keys()
    assert min(found.values()) > 0


def test_one_part_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["benchmark", "--only", "start", "--rounds", "1", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert found.keys() == {"start"}
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert f"{3 * found['start']['import hydra'] + 0.2:.2f}" in out


def test_the_yardstick_is_measured_beside_the_whole_default_run(cache: Path) -> None:
    """Against a cold cache, and without a trace in the user's."""
    before = sorted((cache / "measured").glob("*"))
    found = measure_yardstick("tiny", rounds=1, steps=3)
    assert found["ratio"] == pytest.approx(found["measure"] / found["train"])
    assert found["first"] == pytest.approx((found["measure"] + found["start"]) / found["train"])
    assert min(found.values()) > 0
    assert os.environ["ALIGNZOO_CACHE"] == str(cache)
    assert sorted((cache / "measured").glob("*")) == before

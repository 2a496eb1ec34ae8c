"""The sampling benchmark trains GRPO end to end twice, and compares what each step took."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignzoo.benchmark import sampling
from alignzoo.benchmark.chart import sampling_table
from alignzoo.benchmark.sampling import compare_sampling, measure_sampling

pytestmark = pytest.mark.slow


def test_both_programs_sample_and_learn(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PROMPTS", (2,))
    told: list[str] = []
    (row,) = measure_sampling("tiny", steps=1, limit=6, tell=told.append)
    assert row["batch"] == "2 x 4 completions, up to 6 tokens"
    assert row["lengths_alignzoo"] == row["lengths_trl"] == 6
    assert min(row["processor_alignzoo"], row["seconds_trl"]) > 0
    assert row["faster"] == pytest.approx(row["processor_trl"] / row["processor_alignzoo"])
    assert told == [f"{row['batch']}: {row['faster']:.2f} x"]


def test_ratios_are_of_one_turn_and_the_first_is_left_out() -> None:
    runs = {
        "alignzoo": {
            "seconds": [9.0, 2.0, 2.0, 2.0],
            "processor": [9.0, 1.0, 2.0, 4.0],
            "lengths": [1.0, 5.0, 5.0, 5.0],
        },
        "trl": {"seconds": [1.0, 4.0, 6.0, 8.0], "processor": [1.0, 2.0, 6.0, 8.0], "lengths": [1.0, 5.0, 5.0, 10.0]},
    }
    row = compare_sampling(runs, "a batch")
    assert (row["faster"], row["faster_wall"]) == (2.0, 3.0)
    assert row["faster_token"] == pytest.approx((16 / 20) / (7 / 15))
    assert (row["processor_trl"], row["lengths_trl"]) == (6.0, 5.0)
    assert [*sampling_table([row]).columns[4].cells] == ["6.0 -> 2.0"]

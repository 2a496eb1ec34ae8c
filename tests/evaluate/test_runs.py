"""What the yardstick says of whole runs: equal ones are equal, and wrong labels make a run worse beyond noise."""

from __future__ import annotations

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
from inprocess import SEED, run

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import Estimate
from alignzoo.evaluate.metrics import collect_values
from alignzoo.evaluate.simultaneous import compare_two

WORDS = (
    *("model=tiny", "method=dpo", "method.learning_rate=5e-4", "dataset.rows=96", "train.warmup_steps=0"),
    *("evaluate.max_new_tokens=4", "evaluate.rows=48", SEED),
)


def lines(folder: Path, *words: str) -> list[dict[str, Any]]:
    done = run(folder, *WORDS, *words)
    assert done.code == 0, done.err
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> list[dict[str, Any]]:
    return lines(tmp_path_factory.mktemp("good") / "run")


def test_two_identical_runs_are_equal(good: list[dict[str, Any]], tmp_path: Path) -> None:
    again = lines(tmp_path / "run")
    for key in NUMBERS:
        first, second = collect_values(key, good), collect_values(key, again)
        assert (first is None) == (second is None), key
        if first is not None and second is not None:
            assert (first == second).all(), key


def swap_labels(file: Path) -> None:
    """Write the pairs of `concise`, each with the rejected completion as the chosen one."""
    concise = importlib.resources.files("alignzoo.data").joinpath("concise")
    rows = [json.loads(line) for line in concise.joinpath("train.jsonl").read_text(encoding="utf-8").splitlines()]
    swapped = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in swapped))


def compare_runs(good: list[dict[str, Any]], other: list[dict[str, Any]]) -> tuple[Estimate, Estimate]:
    """Return by how much the good run is ahead: in preference accuracy, and in margin."""
    found = []
    for key in ("preference_accuracy", "margin"):
        first, second = collect_values(key, good), collect_values(key, other)
        assert first is not None
        assert second is not None
        found.append(compare_two(first, second).subtract(0, 1))
    return found[0], found[1]


def test_a_run_on_swapped_labels_is_worse_beyond_noise(good: list[dict[str, Any]], tmp_path: Path) -> None:
    swap_labels(tmp_path / "train.jsonl")
    accuracy, margin = compare_runs(good, lines(tmp_path / "run", f"dataset.path={tmp_path / 'train.jsonl'}"))
    assert accuracy.low > 0, accuracy
    assert margin.low > 0, margin

"""Which jobs of a sweep are pruned, by Optuna's own pruners, from what their folders hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from alignzoo.report.leaderboard.board import read_leaderboard
from alignzoo.report.leaderboard.table import make_frame
from alignzoo.runs.folder import NUMBER, VALUE, Run
from alignzoo.runs.pruning import Rule, list_steps
from alignzoo.runs.record import Record

pytest.importorskip("optuna")

Make = Callable[..., Path]


@pytest.fixture
def job(tmp_path: Path) -> Make:
    """Make a job's folder that has measured these values; of a finished one, with its result."""

    def make(number: int, *values: float, finished: bool = True) -> Path:
        folder = tmp_path / f"{number}-dpo"
        folder.mkdir()
        lines = [{"step": 10 * place, NUMBER: place, VALUE: value} for place, value in enumerate(values, 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "command.txt").write_text(f"python -m alignzoo method=dpo method.beta={number}\n")
        if finished:
            (folder / "result.json").write_text(json.dumps({"before": {}, "after": {}, "method": "dpo"}))
        return folder

    return make


MEDIAN, ASHA = Rule("median", 3, True), Rule("asha", 3, True)


@pytest.mark.parametrize(("value", "behind"), [(0.45, True), (0.55, False)])
def test_below_the_median_of_finished_jobs_at_the_same_measurement(job: Make, value: float, behind: bool) -> None:
    for number, first in enumerate((0.4, 0.5, 0.6)):
        job(number, first, 0.9)
    assert MEDIAN.is_behind(job(7, finished=False), {1: value}) is behind


def test_nothing_is_pruned_before_enough_jobs_have_finished(job: Make) -> None:
    for number in range(2):
        job(number, 0.9)
    job(2, 0.9, finished=False)
    assert not MEDIAN.is_behind(job(7, finished=False), {1: 0.1})


def test_where_lower_is_better_the_higher_value_is_behind(job: Make) -> None:
    for number in range(3):
        job(number, 0.5)
    folder = job(7, finished=False)
    assert Rule("median", 3, False).is_behind(folder, {1: 0.6})
    assert not Rule("median", 3, False).is_behind(folder, {1: 0.4})


def test_the_better_half_of_all_jobs_goes_on_at_each_rung(job: Make) -> None:
    """Jobs that still run count too, and so do those that were pruned."""
    job(0, 0.9, 0.8)
    job(1, 0.2, finished=False)
    job(2, 0.3, finished=False)
    folder = job(7, finished=False)
    assert not ASHA.is_behind(folder, {1: 0.5}), "the second of four"
    assert ASHA.is_behind(folder, {1: 0.25}), "the third of four"
    assert ASHA.is_behind(folder, {1: 0.95, 2: 0.5}), "the second of the two that have come to measurement 2"
    assert not ASHA.is_behind(folder, {1: 0.2, 2: 0.85}), "what was passed is not asked again"
    assert not ASHA.is_behind(folder, {1: 0.95, 2: 0.95, 3: 0.1}), "3 is not a rung"


def test_jobs_that_failed_or_are_torn_count_for_nothing(job: Make) -> None:
    for number in range(3):
        (job(number, 0.9, finished=False) / "error.txt").write_text("no memory\n")
    (job(3, 0.9) / "metrics.jsonl").write_text('{"step": 1, "pruning/mea')
    assert not MEDIAN.is_behind(job(7, finished=False), {1: 0.1})
    assert not ASHA.is_behind(Path(job(8, finished=False)), {1: 0.1})


@pytest.mark.parametrize(
    ("total", "parts", "steps"), [(40, 4, [10, 20, 30]), (10, 4, [3, 5, 8]), (2, 4, [1]), (1, 4, []), (7, 2, [4])]
)
def test_measurements_are_spread_evenly(total: int, parts: int, steps: list[int]) -> None:
    assert list_steps(total, parts) == steps


def test_a_pruned_run_has_ended_and_has_not_failed(job: Make, tmp_path: Path) -> None:
    folder = job(1, 0.5, 0.4, finished=False)
    Record.of(folder).write_pruned("pruned (median) at step 20 of 40: preference accuracy 40%")
    run = Run(folder)
    assert run.objective == 0.4
    assert not run.is_finished
    board = read_leaderboard([tmp_path])
    assert not board.failed
    assert [pruned.reason for pruned in board.pruned] == ["pruned (median) at step 20 of 40: preference accuracy 40%"]
    assert list(make_frame(board)["status"]) == ["pruned"]


def test_a_run_that_starts_anew_is_not_pruned_any_more(job: Make) -> None:
    folder = job(1, 0.5, finished=False)
    Record.of(folder).write_pruned("pruned")
    Record.of(folder).truncate(0)
    assert Run(folder).pruned is None

"""A sweep in which jobs fall behind: they end early, are listed, and are not run again when it is resumed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from inprocess import call, run

from alignzoo.runs.folder import Run
from alignzoo.runs.sweep_status import State, read_jobs

pytest.importorskip("optuna")

WORDS = (
    *("model=tiny", "dataset.rows=16", "train.global_batch_size=4", "train.per_device_batch_size=4"),
    *("train.warmup_steps=0", "evaluate.rows=4", "evaluate.max_new_tokens=4", "dataset.validation.fraction=0.1"),
    *("evaluate.objective=margin", "prune.measurements=2", "prune.direction=maximize"),
)
#: The second to the fourth learn next to nothing, and are behind the first, which learns.
SWEEP = ("-m", "method.learning_rate=1e-3,1e-9,2e-9,3e-9", "prune.rule=median", "prune.after=1")


@pytest.mark.slow
def test_jobs_that_fall_behind_are_pruned_listed_and_not_run_again(tmp_path: Path) -> None:
    done = run(tmp_path / "sweep", *SWEEP, *WORDS)
    assert done.code == 0, done.err
    states = [job.state for job in read_jobs(tmp_path / "sweep")]
    assert states == [State.DONE, *[State.PRUNED] * 3]
    assert len(re.findall(r"learning_rate=\de-09: pruned \(median\) at step 2 of 4: margin", done.out)) == 3
    assert "Selected on validation rows" in done.out
    assert json.loads((tmp_path / "sweep/0-dpo-tiny-concise/result.json").read_text())["selected_on"] == "validation"
    page = (tmp_path / "sweep" / "leaderboard.html").read_text()
    assert page.count("pruned (median)") == 3
    assert "failed" not in done.out
    assert call("sweep", "status", str(tmp_path / "sweep")).code == 0

    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "sweep").glob("*/metrics.jsonl")}
    again = run(tmp_path / "sweep", *SWEEP, *WORDS, "resume=auto")
    assert again.code == 0, again.err
    assert again.out.count("holds the run that was pruned (median)") == 3
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "sweep").glob("*/metrics.jsonl")} == before


@pytest.mark.slow
def test_measuring_on_the_way_changes_no_training(tmp_path: Path) -> None:
    words = ("-m", "method.learning_rate=1e-3", "hydra.sweep.subdir=run", *WORDS)
    losses = []
    for rule in ("none", "asha"):
        done = run(tmp_path / rule, *words, f"prune.rule={rule}")
        assert done.code == 0, done.err
        history = Run(tmp_path / rule / "run").history
        losses.append([line["loss"] for line in history if "loss" in line])
    assert losses[0] == losses[1]
    assert Run(tmp_path / "none" / "run").lines == Run(tmp_path / "asha" / "run").lines


@pytest.mark.slow
def test_a_sweeper_gets_the_last_number_of_a_pruned_trial(tmp_path: Path) -> None:
    """The better half goes on: of two trials, one after the other, the second is pruned where it is behind."""
    rates = ("method.learning_rate=choice(1e-9,1e-3)", "hydra/sweeper/sampler=grid")
    sweeper = ("hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_jobs=1", *rates)
    done = run(tmp_path / "sweep", "-m", *sweeper, "hydra.sweeper.n_trials=2", *WORDS, "prune.rule=asha")
    assert done.code == 0, done.err
    runs = [Run(file.parent) for file in sorted((tmp_path / "sweep").glob("*/metrics.jsonl"))]
    assert len(runs) == 2
    assert all(found.objective is not None for found in runs)
    assert [found.config["method.learning_rate"] for found in runs if found.pruned] in ([], [1e-9])
    best = (tmp_path / "sweep" / "optimization_results.yaml").read_text()
    assert "method.learning_rate: 0.001" in best


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["prune.rule=median"], "prune.rule=median compares the jobs of a sweep: add -m, or leave it out."),
        (["prune.rule=halving"], "prune.rule=halving must be one of none, median, asha."),
        (["prune.rule=asha", "prune.measurements=1"], "prune.measurements=1 must be at least 2."),
    ],
)
def test_what_cannot_be_pruned_is_refused(tmp_path: Path, words: list[str], problem: str) -> None:
    done = run(tmp_path / "run", *WORDS, *words)
    assert done.code == 1
    assert problem in done.err


def test_a_number_without_a_better_direction_prunes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path / "sweep", "-m", *WORDS, "prune.rule=asha", "prune.direction=auto")
    assert done.code == 1
    assert "prune.rule=asha: which margin is better depends: add prune.direction=maximize." in done.err

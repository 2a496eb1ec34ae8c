"""Optuna tunes on the yardstick: each trial is a run, and the best of them is the one with the highest objective."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from inprocess import run

pytestmark = pytest.mark.slow

WORDS = ("model=tiny", "dataset.rows=8", "evaluate.rows=4", "evaluate.max_new_tokens=4", "train.warmup_steps=0")


@pytest.mark.parametrize("objective", ["margin", "kl"])
def test_any_number_can_be_the_aim(tmp_path: Path, cache: Path, objective: str) -> None:
    words = ("hydra.sweeper.n_trials=3", "hydra.sweeper.sampler.seed=1", f"evaluate.objective={objective}")
    done = run(tmp_path / "sweep", "-m", "experiment=tune", *words, *WORDS)
    assert done.code == 0, done.err
    results = [json.loads(file.read_text()) for file in (tmp_path / "sweep").glob("*/result.json")]
    assert len(results) == 3
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert best["best_value"] == pytest.approx(max(result["validation"]["after"][objective] for result in results))
    assert [result["selected_on"] for result in results] == ["validation"] * 3
    assert "Selected on validation rows" in done.out
    assert best["best_params"].keys() == {"method.beta", "method.learning_rate"}


@pytest.mark.long
def test_a_trial_that_fails_is_not_the_best(tmp_path: Path, cache: Path) -> None:
    """One of the choices is refused before it trains; the others are tried all the same."""
    sweeper = (
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=random",
        "hydra.sweeper.sampler.seed=3",
        "hydra.sweeper.n_trials=8",
        "hydra.sweeper.n_jobs=1",
    )
    words = ("hydra.sweeper.direction=maximize", "hydra.sweeper.max_failure_rate=1.0", "method.beta=choice(-1,0.1)")
    done = run(tmp_path / "sweep", "-m", *sweeper, *words, *WORDS)
    assert done.code == 1
    assert "method.beta=-1 must be above 0" in done.err
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert best["best_params"] == {"method.beta": 0.1}
    finished = [json.loads(file.read_text()) for file in (tmp_path / "sweep").glob("*/result.json")]
    assert {result["selected_on"] for result in finished} == {"heldout"}
    assert "Selected on these rows" in done.out
    assert "dataset.validation.fraction=0.1" in done.out

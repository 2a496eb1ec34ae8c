"""The method as its users meet it: what it refuses, and whole runs from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alignzoo_plugins.online.ppo import PPO
from alignzoo_plugins.online.ppo.value import FILE

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.train.losses.compare import compare

QUICK = ("method=ppo", "model=tiny", "dataset.rows=16", "evaluate.rows=4", "evaluate.max_new_tokens=8")
SHORT = ("method.max_completion_length=12", "method.learning_rate=0.001", "train.warmup_steps=0", "reward=length")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m alignzoo`` in ``folder``."""
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "WANDB_MODE": "offline", "COLUMNS": "200"}
    command = [sys.executable, "-m", "alignzoo", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All weights and an adapter, with and without a KL penalty: two rollouts of 8 prompts, 16 updates each."""
    folder = tmp_path_factory.mktemp("sweep")
    done = run(folder, "-m", *QUICK, *SHORT, "peft=none,lora", "method.beta=0,0.05", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    return folder / "sweep"


def lines(member: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (member / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if "loss" in line]


@pytest.mark.slow
def test_every_member_of_a_sweep_trains_as_planned(sweep: Path) -> None:
    members = sorted(sweep.glob("[0-9]*"))
    assert len(members) == 4
    for member in members:
        result = json.loads((member / "result.json").read_text())
        assert (result["method"], result["cost"]["steps"], result["plan"]["updates"]) == ("ppo", 16, 16)
        assert len(lines(member)) == 16


@pytest.mark.slow
def test_every_line_shows_the_headline(sweep: Path) -> None:
    for member in sweep.glob("[0-9]*"):
        for line in lines(member):
            assert line.keys() >= PPO.headline.keys()


@pytest.mark.slow
def test_the_penalty_is_measured_against_the_start_model(sweep: Path) -> None:
    without, full, _, adapter = (lines(member) for member in sorted(sweep.glob("[0-9]*")))
    assert all(line["kl"] == 0 for line in without)
    for logged in (full, adapter):
        assert logged[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert abs(full[-1]["kl"]) > 1e-3


@pytest.mark.slow
def test_the_run_folder_holds_a_plain_policy_and_the_value_head(sweep: Path) -> None:
    full, *_, adapter = (member / "model" for member in sorted(sweep.glob("[0-9]*")))
    assert {"config.json", "model.safetensors", FILE} <= {file.name for file in full.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", FILE} <= {file.name for file in adapter.iterdir()}


def test_a_mistyped_key_is_answered() -> None:
    with pytest.raises(UserError, match=r"method\.lamda: PPOConfig has no such field\. Did you mean lam or gamma\?"):
        check(compose(["method=ppo", "model=tiny", "++method.lamda=0.9"]))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("method.lam=1.1", "method.lam=1.1 must be between 0 and 1."),
        ("method.gamma=-0.1", "method.gamma=-0.1 must be between 0 and 1."),
        ("method.beta=-1", "method.beta=-1 must be at least 0."),
        ("method.num_iterations=0", "method.num_iterations=0 must be at least 1."),
        ("method.epsilon=0", "method.epsilon=0 must be above 0."),
        ("method.value_learning_rate=0", "method.value_learning_rate=0 must be above 0."),
        ("method.kl_estimator=k4", "method.kl_estimator=k4 must be one of k1, k2, k3."),
        ("method.generation_batch_size=6", "6 must be a multiple of train.global_batch_size=4."),
        ("+method.num_generations=3", "8 must be a multiple of method.num_generations=3."),
        ("strategy.processes=2", "strategy.processes=2: ppo trains in one process"),
    ],
)
def test_a_known_mistake_is_refused_before_anything_is_loaded(word: str, said: str) -> None:
    with pytest.raises(UserError) as found:
        PPO.check(compose(["method=ppo", word]))
    assert said in str(found.value)


def test_the_defaults_are_accepted() -> None:
    PPO.check(compose(["method=ppo"]))


def test_loss_and_gradient_are_the_papers() -> None:
    found = compare(PPO)
    assert found is not None
    assert found.agrees, found

"""A task that it visibly learns: to answer in tokens from the lower half of the vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alignzoo_ppo.trainer import PPOTrainer

ROUNDS = 40


def rewards(trainer: PPOTrainer) -> tuple[float, float]:
    """Train, and return the mean reward of the first and the last quarter of the rounds."""
    trainer.train()
    found = [line["reward"] for line in trainer.state.log_history if "reward" in line]
    quarter = len(found) // 4
    return sum(found[:quarter]) / quarter, sum(found[-quarter:]) / quarter


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reward_rises(make_trainer: Callable[..., PPOTrainer], seed: int) -> None:
    before, after = rewards(make_trainer(seed=seed, max_steps=8 * ROUNDS, learning_rate=3e-3, missing_eos_penalty=0.0))
    assert before < 0.75
    assert after > before + 0.2


def test_without_a_learning_rate_it_does_not(make_trainer: Callable[..., PPOTrainer]) -> None:
    before, after = rewards(make_trainer(max_steps=8 * ROUNDS, learning_rate=0.0, missing_eos_penalty=0.0))
    assert abs(after - before) < 0.05

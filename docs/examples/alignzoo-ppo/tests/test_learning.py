"""What it visibly learns: the policy to answer in tokens of the vocabulary's lower half, and to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from alignzoo_ppo.trainer import PPOTrainer

#: 25 rounds of 32 answers, in 2 epochs of 2 mini-batches. The rewards are five times a share, from 0 to 5.
ROUNDS = {"max_steps": 25 * 4, "generation_batch_size": 32, "per_device_train_batch_size": 16, "num_iterations": 2}
FAST = {"learning_rate": 1e-2, "value_learning_rate": 1e-2, "reward_weights": [5.0], "missing_eos_penalty": 0.0}

Make = Callable[..., PPOTrainer]


def numbers(trainer: PPOTrainer, name: str) -> tuple[float, float]:
    """Train, and return the logged number's mean over the first and the last fifth of the updates."""
    trainer.train()
    found = [line[name] for line in trainer.state.log_history if name in line]
    fifth = len(found) // 5
    return sum(found[:fifth]) / fifth, sum(found[-fifth:]) / fifth


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_reward_rises(make_trainer: Make, seed: int) -> None:
    """From half of the tokens to four fifths and more, under the default KL penalty."""
    before, after = numbers(make_trainer(seed=seed, prompts=64, **ROUNDS, **FAST), "reward")
    assert before < 3.5
    assert after > 4


def test_without_a_learning_rate_it_does_not(make_trainer: Make) -> None:
    before, after = numbers(make_trainer(prompts=64, **ROUNDS, **FAST | {"learning_rate": 0.0}), "reward")
    assert 2 < before < 3
    assert abs(after - before) < 0.25


def test_the_penalty_for_an_unfinished_answer_teaches_to_end(make_trainer: Make) -> None:
    """At first one answer in a thousand tokens ends."""

    def nothing(completions: list[Any], **columns: Any) -> list[float]:
        return [0.0] * len(completions)

    trainer = make_trainer(nothing, prompts=64, **ROUNDS, **FAST | {"missing_eos_penalty": 5.0}, beta=0.0)
    before, after = numbers(trainer, "score")
    assert before < -3
    assert after > -1

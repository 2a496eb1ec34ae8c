"""What it visibly learns: to answer in tokens of the vocabulary's lower half, to end, and what a prompt is worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alignzoo_plugins.online.ppo.trainer import PPOTrainer
from ppo_rewards import PROMPTS, build_trainers, low_ids

pytestmark = pytest.mark.zoo

#: 25 rounds of 32 answers, in 2 epochs of 2 mini-batches. The rewards are five times a share, from 0 to 5.
ROUNDS = {"max_steps": 25 * 4, "generation_batch_size": 32, "per_device_train_batch_size": 16, "num_iterations": 2}
FAST = {"learning_rate": 1e-2, "value_learning_rate": 1e-2, "reward_weights": [5.0], "missing_eos_penalty": 0.0}

#: Values that stay 0, and take no part in the loss.
NO_VALUES = {"value_learning_rate": 1e-12, "vf_coef": 0.0}

Make = Callable[..., PPOTrainer]


@pytest.fixture
def make_trainer(start: Path, tmp_path: Path) -> Make:
    return build_trainers(start, tmp_path)


def numbers(trainer: PPOTrainer, name: str) -> tuple[float, float]:
    """Train, and return the logged number's mean over the first and the last fifth of the updates."""
    trainer.train()
    found = [line[name] for line in trainer.state.log_history if name in line]
    fifth = len(found) // 5
    return sum(found[:fifth]) / fifth, sum(found[-fifth:]) / fifth


@pytest.mark.parametrize("seed", [0, 1])
def test_the_reward_rises(make_trainer: Make, seed: int) -> None:
    """From half of the tokens to four fifths and more, under the default KL penalty."""
    before, after = numbers(make_trainer(seed=seed, prompts=64, **ROUNDS, **FAST), "reward")
    assert before < 3.5
    assert after > 4


def test_without_a_learning_rate_it_does_not(make_trainer: Make) -> None:
    before, after = numbers(make_trainer(prompts=64, **ROUNDS, **FAST | {"learning_rate": 0.0}), "reward")
    assert 2 < before < 3
    assert abs(after - before) < 0.25


class Levels:
    """The share of :func:`low_ids`, and 2 more for every second prompt, whatever the answer; it notes the shares."""

    __name__ = "levels"

    def __init__(self) -> None:
        self.shares: list[float] = []

    def __call__(self, prompts: list[str], completions: list[Any], **columns: Any) -> list[float]:
        shares = low_ids(prompts, completions, **columns)
        self.shares.append(5 * sum(shares) / len(shares))
        return [share + 2 * (PROMPTS.index(prompt) % 2) for share, prompt in zip(shares, prompts, strict=True)]


@pytest.mark.parametrize("seed", [0, 1])
def test_where_prompts_differ_in_worth_the_value_head_foretells_it_and_helps(make_trainer: Make, seed: int) -> None:
    """Ten points lie between prompts, at most five between answers. Halfway, in rounds 10 to 15 of 25, it is ahead."""
    levels, without = Levels(), Levels()
    trainer = make_trainer(levels, seed=seed, prompts=64, **ROUNDS, **FAST)
    _, explained = numbers(trainer, "explained_variance")
    make_trainer(without, seed=seed, prompts=64, **ROUNDS, **FAST | NO_VALUES).train()
    assert explained > 0.9
    assert sum(levels.shares[10:15]) / 5 > sum(without.shares[10:15]) / 5 + 0.5


def test_the_penalty_for_an_unfinished_answer_teaches_to_end(make_trainer: Make) -> None:
    """At first one answer in a thousand tokens ends."""

    def nothing(completions: list[Any], **columns: Any) -> list[float]:
        return [0.0] * len(completions)

    trainer = make_trainer(nothing, prompts=64, **ROUNDS, **FAST | {"missing_eos_penalty": 5.0}, beta=0.0)
    before, after = numbers(trainer, "score")
    assert before < -3
    assert after > -1

"""Rewards as TRL calls them: with names of their own, checked for count and finiteness."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from alignzoo.errors import UserError
from alignzoo.plain import plain
from alignzoo.registry import registry

if TYPE_CHECKING:
    from alignzoo.reward import Reward

RewardFunction = Callable[..., list[float]]


def build_rewards(cfg: DictConfig, columns: set[str], stops: list[int]) -> tuple[list[RewardFunction], list[float]]:
    """Return the group ``reward`` as TRL's reward functions, and their weights.

    Args:
        cfg: the group ``reward``: name -> weight and the reward's own keyword arguments.
        columns: the dataset's columns.
        stops: token ids that end an answer.

    Raises:
        UserError: a reward needs a column that the dataset lacks, or does not take one of its keys.
    """
    functions, weights = [], []
    for name, options in ((str(key), value) for key, value in cfg.items()):
        reward_class = registry().reward(name)
        missing = reward_class.columns - columns
        if missing:
            raise UserError(
                f"reward={name} reads the column {', '.join(sorted(missing))}, which the dataset lacks (it has: "
                f"{', '.join(sorted(columns))}).\nMap it: 'dataset.columns={{yours: {min(missing)}}}'."
            )
        arguments: dict[str, Any] = plain(options)
        weights.append(float(arguments.pop("weight", 1.0)))
        try:
            reward = reward_class(**arguments)
        except TypeError as error:
            raise UserError(f"reward.{name}: {str(error).split('__init__() ')[-1]}.") from None
        functions.append(as_function(reward, stops))
    return functions, weights


def as_function(reward: Reward, stops: list[int]) -> RewardFunction:
    """Wrap ``reward`` in a function that has its name, since TRL names metrics after functions."""

    def function(
        prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        answers = [_last_text(completion) for completion in completions]
        columns["ended"] = [bool(ids) and ids[-1] in stops for ids in completion_ids]
        scores = reward([_last_text(prompt) for prompt in prompts], answers, **columns)
        if len(scores) != len(answers):
            raise UserError(f"reward={reward.name} returned {len(scores)} scores for {len(answers)} answers.")
        for score, answer in zip(scores, answers, strict=True):
            if not math.isfinite(score):
                raise UserError(
                    f"reward={reward.name} returned {score} for the answer {answer[:60]!r}; it must be finite."
                )
        return scores

    function.__name__ = reward.name
    return function


def _last_text(turns: Any) -> str:
    """Return a plain text, or the last message's."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"])

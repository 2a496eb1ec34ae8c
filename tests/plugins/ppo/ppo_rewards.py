"""Prompts, and a reward, of PPO's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROMPTS = ["Why is the sea salt?", "Name three colours.", "What is a mirror?", "Count to five."]

Reward = Callable[..., list[float]]


def low_ids(prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """The share of the answer's tokens from the lower half of the vocabulary: about half, sampled at random."""
    return [sum(token < 512 for token in ids) / len(ids) for ids in completion_ids]

"""Finds settings whose completions collapsed, however well they score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PERFECT = 0.95  #: preference accuracy from which on a model tells nearly all pairs apart
RISE_OF_EMPTY = 0.1  #: of the share of empty answers
FALL_OF_ENDED = 0.2  #: of the share that end with EOS: with 48 prompts it is sure to 0.14
FALL_OF_DISTINCT = 0.1  #: of distinct-3
FAR = 1.0  #: KL to the start model (nats/token)


@dataclass(frozen=True)
class Collapse:
    """Why a setting counts as collapsed."""

    brief: str
    """As part of a sentence: ``collapsed: completions are cut off``."""

    full: str
    """With the numbers."""


def find_collapse(results: Sequence[Mapping[str, Any]]) -> Collapse | None:
    """Return how a setting collapsed, from the results of its seeds, or None.

    One collapsed seed is enough: the mean over seeds would hide it.
    """
    found = [(result, symptoms) for result in results if (symptoms := find_symptoms(result))]
    if not found:
        return None
    result, symptoms = found[0]
    accuracy = result["after"].get("preference_accuracy", 0.0)
    perfect = f"preference accuracy is {accuracy:.0%}, but " if accuracy >= PERFECT else ""
    some = f" ({len(found)} of {len(results)} seeds)" if len(found) < len(results) else ""
    brief = f"collapsed: {', '.join(symptoms)}{some}"
    numbers = ", ".join(f"{what} ({how})" for what, how in symptoms.items())
    return Collapse(brief, f"collapsed: {perfect}{numbers}{some}")


def find_symptoms(result: Mapping[str, Any]) -> dict[str, str]:
    """Return what got worse since the start model, each with its numbers."""
    before, after = result.get("before", {}), result.get("after", {})

    def rise(key: str) -> float:
        return float(after[key] - before[key]) if key in before and key in after else 0.0

    def compare(key: str) -> str:
        return f"{before[key]:.0%} to {after[key]:.0%}"

    found = {}
    if rise("empty") > RISE_OF_EMPTY:
        found["completions are empty"] = compare("empty")
    if rise("ended") < -FALL_OF_ENDED:
        found["completions are cut off"] = f"those that end with EOS: {compare('ended')}"
    if rise("distinct_3") < -FALL_OF_DISTINCT:
        found["completions repeat themselves"] = f"distinct word 3-grams: {compare('distinct_3')}"
    if after.get("kl", 0.0) > FAR:
        found["the model is far from its start"] = f"KL {after['kl']:.1f} nats/token"
    return found

"""Finds settings whose completions collapsed, however well they score."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PERFECT = 0.95  #: preference accuracy from which on a model tells nearly all pairs apart
RISE_OF_EMPTY = 0.1  #: of the share of empty answers
FALL_OF_ENDED = 0.2  #: of the share that end with EOS: with 48 prompts it is sure to 0.14
FALL_OF_DISTINCT = 0.1  #: of distinct-3
FAR = 1.0  #: KL to the start model (nats/token)
RISE_OF_REFUSALS = 0.1  #: of the share of refusals
TIMES = 2.0  #: longer than both the start model's completions and the chosen ones, or as many times shorter


@dataclass(frozen=True)
class Collapse:
    """Why a setting counts as collapsed."""

    brief: str
    """As part of a sentence: ``collapsed: completions are cut off``."""

    full: str
    """With the numbers."""


def find_collapse(results: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]] = ()) -> Collapse | None:
    """Return how a setting collapsed, from the results of its seeds, or None.

    One collapsed seed is enough: the mean over seeds would hide it. ``lines``: of ``answers.jsonl``, whose chosen
    completions say how long one may be.
    """
    lengths = [line["chosen_tokens"] for line in lines if line.get("chosen_tokens") is not None]
    wanted = statistics.fmean(lengths) if lengths else None
    found = [(result, symptoms) for result in results if (symptoms := find_symptoms(result, wanted))]
    if not found:
        return None
    result, symptoms = found[0]
    accuracy = result["after"].get("preference_accuracy", 0.0)
    perfect = f"preference accuracy is {accuracy:.0%}, but " if accuracy >= PERFECT else ""
    some = f" ({len(found)} of {len(results)} seeds)" if len(found) < len(results) else ""
    brief = f"collapsed: {', '.join(symptoms)}{some}"
    numbers = ", ".join(f"{what} ({how})" for what, how in symptoms.items())
    return Collapse(brief, f"collapsed: {perfect}{numbers}{some}")


def find_symptoms(result: Mapping[str, Any], wanted: float | None = None) -> dict[str, str]:
    """Return what got worse since the start model, each with its numbers; ``wanted``: tokens of a chosen completion."""
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
    if rise("refusals") > RISE_OF_REFUSALS:
        found["completions refuse"] = compare("refusals")
    return found or _find_odd_length(before, after, wanted)


def _find_odd_length(before: Mapping[str, float], after: Mapping[str, float], wanted: float | None) -> dict[str, str]:
    """Return whether completions are longer, or shorter, than the start model's and the chosen ones by far."""
    start, length = before.get("answer_tokens"), after.get("answer_tokens")
    if wanted is None or start is None or length is None:
        return {}
    numbers = f"{start:.0f} to {length:.0f} tokens, the chosen ones have {wanted:.0f}"
    if length > TIMES * max(start, wanted):
        return {"completions are too long": numbers}
    return {"completions are too short": numbers} if TIMES * length < min(start, wanted) else {}

"""The yardstick's numbers out of what was measured: one line a held-out prompt, as ``answers.jsonl`` holds them.

A line has ``id``, ``prompt``, ``chosen_tokens``, ``rejected_tokens`` and, under ``before`` (the start model) and
``after``, an :class:`alignzoo.evaluate.yardstick.Seen`; a reward model's has, besides ``id`` and ``prompt``, an
:class:`alignzoo.evaluate.reward_yardstick.Scored` on each side. Every number is a sum over prompts divided by another,
so that its interval comes from drawing prompts again; shares have Wilson's, a median its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alignzoo.config.metrics import NUMBERS
from alignzoo.data.text_features import refuses
from alignzoo.evaluate.intervals import Column, Estimate, bootstrap, median, paired, wilson
from alignzoo.evaluate.style import has_markdown, trigrams, words

Line = Mapping[str, Any]
Value = Callable[[Line, str], tuple[float, float] | None]


def estimate(key: str, lines: Sequence[Line], side: str = "after") -> Estimate | None:
    """Return number ``key`` with its 95 % interval over prompts; None where it was not measured."""
    columns = _columns(key, lines, side)
    if columns is None:
        return None
    top, below = columns
    kind = NUMBERS[key].kind
    if kind == "median":
        return median(top)
    if kind == "share":
        return Estimate(float(top.mean()), *wilson(float(top.sum()), len(top)))
    return bootstrap(top, below)


def numbers(lines: Sequence[Line], side: str = "after") -> dict[str, Estimate]:
    """Return every number of :data:`~alignzoo.config.metrics.NUMBERS` that was measured."""
    found = {key: estimate(key, lines, side) for key in NUMBERS} if lines else {}
    return {key: value for key, value in found.items() if value is not None}


def told(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """Return the numbers before and after, and the intervals of the latter, as ``result.json`` holds them."""
    before, after = numbers(lines, "before"), numbers(lines)
    return {
        "before": {key: found.value for key, found in before.items()},
        "after": {key: found.value for key, found in after.items()},
        "intervals": {key: [found.low, found.high] for key, found in after.items()},
    }


def difference(key: str, a: Sequence[Line], b: Sequence[Line]) -> Estimate | None:
    """Return number ``key`` of run ``a`` minus that of run ``b``, on the prompts that both were measured on."""
    others = {line["id"]: line for line in b}
    shared = [line for line in a if line["id"] in others]
    first, second = (_columns(key, lines, "after") for lines in (shared, [others[line["id"]] for line in shared]))
    if first is None or second is None:
        return None
    return median(first[0], second[0]) if NUMBERS[key].kind == "median" else paired(first, second)


def _columns(key: str, lines: Sequence[Line], side: str) -> tuple[Column, Column] | None:
    pairs = [VALUES[key](line, side) for line in lines]
    known = [pair for pair in pairs if pair is not None]
    if not known or len(known) < len(pairs):
        return None
    top, below = (np.array(column, float) for column in zip(*known, strict=True))
    return (top, below) if below.sum() else (np.ones_like(top), np.ones_like(top))  # no 3-gram at all: none repeated


def _gains(line: Line, side: str) -> tuple[float, float] | None:
    """Return how much more likely the chosen and the rejected answer became since the start model, in nats."""
    if line.get("chosen_tokens") is None:
        return None
    chosen, rejected = (line[side][answer] - line["before"][answer] for answer in ("chosen", "rejected"))
    return chosen, rejected


def _of_gains(told: Callable[[float, float, Line], float]) -> Value:
    def value(line: Line, side: str) -> tuple[float, float] | None:
        gains = _gains(line, side)
        return None if gains is None else (told(*gains, line), 1.0)

    return value


def _wins(better: float, worse: float) -> float:
    return 0.5 + 0.5 * ((better > worse) - (better < worse))


def _accuracy(each: bool) -> Value:
    """Compare log-probabilities under the model itself, summed or a token."""

    def value(line: Line, side: str) -> tuple[float, float] | None:
        if line.get("chosen_tokens") is None:
            return None
        chosen, rejected = (line[side][a] / (line[f"{a}_tokens"] if each else 1) for a in ("chosen", "rejected"))
        return _wins(chosen, rejected), 1.0

    return value


def _chosen_change(line: Line, side: str) -> tuple[float, float] | None:
    gains = _gains(line, side)
    return None if gains is None else (gains[0], line["chosen_tokens"])


def _of_answer(told: Callable[[Mapping[str, Any]], float]) -> Value:
    return lambda line, side: (float(told(line[side])), 1.0) if "text" in line[side] else None


def _given(name: str, over: str | None = None) -> Value:
    """Read what was measured only where it was asked for."""

    def value(line: Line, side: str) -> tuple[float, float] | None:
        seen = line[side]
        return None if seen.get(name) is None else (seen[name], seen[over] if over else 1.0)

    return value


def _of_scores(told: Callable[[float, float], float]) -> Value:
    """Compare a reward model's scores of the two answers."""

    def value(line: Line, side: str) -> tuple[float, float] | None:
        seen = line[side]
        return (told(seen["chosen_score"], seen["rejected_score"]), 1.0) if "chosen_score" in seen else None

    return value


def _distinct_trigrams(line: Line, side: str) -> tuple[float, float] | None:
    return trigrams(line[side]["text"]) if "text" in line[side] else None


VALUES: dict[str, Value] = {
    "preference_accuracy": _of_gains(lambda chosen, rejected, line: _wins(chosen, rejected)),
    "accuracy_sum": _accuracy(each=False),
    "accuracy_mean": _accuracy(each=True),
    "margin": _of_gains(lambda chosen, rejected, line: chosen - rejected),
    "margin_token": _of_gains(
        lambda chosen, rejected, line: chosen / line["chosen_tokens"] - rejected / line["rejected_tokens"]
    ),
    "chosen_change": _chosen_change,
    "kl": _given("kl", over="kl_tokens"),
    "reward": _given("reward"),
    "win_rate": _given("win"),
    "answer_tokens": _of_answer(lambda seen: seen["tokens"]),
    "answer_words": _of_answer(lambda seen: words(seen["text"])),
    "answer_words_median": _of_answer(lambda seen: words(seen["text"])),
    "ended": _of_answer(lambda seen: seen["ended"]),
    "empty": _of_answer(lambda seen: words(seen["text"]) == 0),
    "refusals": _of_answer(lambda seen: refuses(seen["text"])),
    "formatted": _of_answer(lambda seen: has_markdown(seen["text"])),
    "distinct_3": _distinct_trigrams,
    "reward_accuracy": _of_scores(_wins),
    "reward_margin": _of_scores(lambda chosen, rejected: chosen - rejected),
}

"""Computes the yardstick's numbers, with their intervals, from the lines of ``answers.jsonl``.

A line is one held-out prompt. It has ``id``, ``prompt``, ``chosen_tokens``, ``rejected_tokens`` and, under ``before``
(the start model) and ``after``, a :class:`alignzoo.evaluate.yardstick.RowMeasurement`. A reward model's has ``id``,
``prompt`` and on each side :class:`alignzoo.evaluate.reward_yardstick.PairScores`. Every number is a sum over prompts
divided by another, so its interval comes from resampled prompts; a share has Wilson's interval, a median its own, and
so has a win rate at equal length, which a regression estimates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from alignzoo.config.metrics import NUMBERS
from alignzoo.data.text_features import refuses
from alignzoo.evaluate.agreement import summarise_agreement
from alignzoo.evaluate.intervals import (
    Column,
    Estimate,
    bootstrap,
    bootstrap_median,
    linearise,
    linearise_median,
    wilson,
)
from alignzoo.evaluate.length_control import estimate_controlled, linearise_controlled
from alignzoo.evaluate.style import count_trigrams, count_words, has_markdown
from alignzoo.evaluate.task_items import summarise_tasks
from alignzoo.runs.folder import TASKS

Line = Mapping[str, Any]
Value = Callable[[Line, str], tuple[float, float] | None]


def estimate(key: str, lines: Sequence[Line], side: str = "after") -> Estimate | None:
    """Return number ``key`` with its 95 % interval over prompts; None where it was not measured."""
    columns = _collect(key, lines, side)
    if columns is None:
        return None
    top, below = columns
    kind = NUMBERS[key].kind
    if key in CONTROLLED:
        return estimate_controlled(top, below)
    if kind == "median":
        return bootstrap_median(top)
    if kind == "share":
        return Estimate(float(top.mean()), *wilson(float(top.sum()), len(top)))
    return bootstrap(top, below)


def estimate_all(lines: Sequence[Line], side: str = "after") -> dict[str, Estimate]:
    """Return every number of :data:`~alignzoo.config.metrics.NUMBERS` that was measured."""
    found = {key: estimate(key, lines, side) for key in NUMBERS} if lines else {}
    return {key: value for key, value in found.items() if value is not None}


def summarise(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """Return the numbers before and after, and the intervals of the latter, as ``result.json`` holds them.

    Where two judges have judged, ``agreement`` says how far they agree.
    """
    agreement = summarise_agreement(lines)
    before, after = estimate_all(lines, "before"), estimate_all(lines)
    return {
        "before": {key: found.value for key, found in before.items()},
        "after": {key: found.value for key, found in after.items()},
        "intervals": {key: [found.low, found.high] for key, found in after.items()},
        **({"agreement": agreement} if agreement else {}),
    }


def summarise_sides(measured: Mapping[str, Sequence[Line]]) -> dict[str, Any]:
    """Return the numbers on the held-out rows; under ``validation`` and ``tasks`` those of these, if any."""
    summaries = {TASKS: summarise_tasks}
    found = {side: summaries.get(side, summarise)(lines) for side, lines in measured.items()}
    return {**found.pop("heldout"), **found}


def collect_values(key: str, lines: Sequence[Line], side: str = "after") -> Column | None:
    """Return what each line says of number ``key``, (lines,): their mean is the number; None where it was not measured.

    A ratio of sums and a median are linearised: the spread of the values is the number's.
    """
    columns = _collect(key, lines, side)
    if columns is None:
        return None
    if key in CONTROLLED:
        return linearise_controlled(*columns)
    return linearise_median(columns[0]) if NUMBERS[key].kind == "median" else linearise(*columns)


def _collect(key: str, lines: Sequence[Line], side: str) -> tuple[Column, Column] | None:
    pairs = [VALUES[key](line, side) for line in lines]
    known = [pair for pair in pairs if pair is not None]
    if not known or len(known) < len(pairs):
        return None
    top, below = (np.array(column, float) for column in zip(*known, strict=True))
    if below.sum() or key in CONTROLLED:
        return top, below
    return np.ones_like(top), np.ones_like(top)  # no 3-gram at all: none repeated


def _compute_gains(line: Line, side: str) -> tuple[float, float] | None:
    """Return how much more likely the chosen and the rejected answer became since the start model, in nats."""
    if line.get("chosen_tokens") is None:
        return None
    chosen, rejected = (line[side][answer] - line["before"][answer] for answer in ("chosen", "rejected"))
    return chosen, rejected


def _from_gains(count: Callable[[float, float, Line], float]) -> Value:
    def value(line: Line, side: str) -> tuple[float, float] | None:
        gains = _compute_gains(line, side)
        return None if gains is None else (count(*gains, line), 1.0)

    return value


def _compare(better: float, worse: float) -> float:
    return 0.5 + 0.5 * ((better > worse) - (better < worse))


def _compare_likelihoods(per_token: bool) -> Value:
    """Compare the pair's log-probabilities under the model itself, summed or per token."""

    def value(line: Line, side: str) -> tuple[float, float] | None:
        if line.get("chosen_tokens") is None:
            return None
        chosen, rejected = (line[side][a] / (line[f"{a}_tokens"] if per_token else 1) for a in ("chosen", "rejected"))
        return _compare(chosen, rejected), 1.0

    return value


def _sum_chosen_gain(line: Line, side: str) -> tuple[float, float] | None:
    gains = _compute_gains(line, side)
    return None if gains is None else (gains[0], line["chosen_tokens"])


def _from_completion(count: Callable[[Mapping[str, Any]], float]) -> Value:
    return lambda line, side: (float(count(line[side])), 1.0) if "text" in line[side] else None


def _from_text(count: Callable[[str], float]) -> Value:
    return _from_completion(lambda row: count(row["text"]))


def _if_measured(name: str, over: str | None = None) -> Value:
    """Read what is measured only where it was asked for."""

    def value(line: Line, side: str) -> tuple[float, float] | None:
        row = line[side]
        return None if row.get(name) is None else (row[name], row[over] if over else 1.0)

    return value


def _pair_win_with_length(line: Line, side: str) -> tuple[float, float] | None:
    """Return the judge's verdict, and the completion's length less that of the start model's, in characters."""
    row = line[side]
    return None if row.get("win") is None else (row["win"], len(row["text"]) - len(line["before"]["text"]))


def _from_scores(count: Callable[[float, float], float]) -> Value:
    """Compare a reward model's scores of the pair."""

    def value(line: Line, side: str) -> tuple[float, float] | None:
        row = line[side]
        return (count(row["chosen_score"], row["rejected_score"]), 1.0) if "chosen_score" in row else None

    return value


def _distinct_trigrams(line: Line, side: str) -> tuple[float, float] | None:
    return count_trigrams(line[side]["text"]) if "text" in line[side] else None


#: Numbers that a regression of verdicts on lengths estimates.
CONTROLLED = frozenset({"win_rate_lc"})

VALUES: dict[str, Value] = {
    "preference_accuracy": _from_gains(lambda chosen, rejected, line: _compare(chosen, rejected)),
    "accuracy_sum": _compare_likelihoods(per_token=False),
    "accuracy_mean": _compare_likelihoods(per_token=True),
    "margin": _from_gains(lambda chosen, rejected, line: chosen - rejected),
    "margin_token": _from_gains(
        lambda chosen, rejected, line: chosen / line["chosen_tokens"] - rejected / line["rejected_tokens"]
    ),
    "chosen_change": _sum_chosen_gain,
    "kl": _if_measured("kl", over="kl_tokens"),
    "teacher_kl": _if_measured("teacher_kl", over="teacher_kl_tokens"),
    "reward": _if_measured("reward"),
    "success": _if_measured("success"),
    "turns": _if_measured("turns"),
    "win_rate": _if_measured("win"),
    "win_rate_lc": _pair_win_with_length,
    "win_rate_second": _if_measured("win_second"),
    "answer_tokens": _from_completion(lambda row: row["tokens"]),
    "answer_words": _from_text(count_words),
    "answer_words_median": _from_text(count_words),
    "ended": _from_completion(lambda row: row["ended"]),
    "empty": _from_text(lambda text: count_words(text) == 0),
    "refusals": _from_text(refuses),
    "formatted": _from_text(has_markdown),
    "distinct_3": _distinct_trigrams,
    "reward_accuracy": _from_scores(_compare),
    "reward_margin": _from_scores(lambda chosen, rejected: chosen - rejected),
}

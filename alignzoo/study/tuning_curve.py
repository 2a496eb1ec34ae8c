"""Computes tuning curves: how good the best of k trials is, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from alignzoo.evaluate.intervals import LEVEL


@dataclass(frozen=True)
class Point:
    """The best of ``trials`` trials."""

    trials: int
    expected: float
    low: float | None
    """Of the interval; None where so few trials bound it on no side."""

    high: float | None


def compute_tuning_curve(scores: Sequence[float | None], better: str = "high") -> list[Point]:
    """Return the expected best of 1, 2, ... n trials, from the scores of n; None: a trial that cannot win.

    The expectation is that over all ways to take k of the n trials (Dodge et al., 2019, without their replacement,
    which is biased: Tang et al., 2020). The interval is that of the median best of k trials (Lourie et al., 2024), by
    order statistics: exact and free of any distribution at 95 %, for each k by itself. Where n trials are too few for
    an end, there is none. A trial that cannot win counts as worse than all; where the best of k may be such a trial,
    there is no expectation, and the point is left out.
    """
    sign = -1.0 if better == "low" else 1.0
    ordered = sorted(-math.inf if score is None else sign * score for score in scores)
    points = []
    for k in range(1, len(ordered) + 1):
        expected = _expect(ordered, k)
        if not math.isfinite(expected):
            continue
        low, high = (None if end is None else sign * end for end in _bound_median(ordered, k))
        points.append(Point(k, sign * expected, *((high, low) if sign < 0 else (low, high))))
    return points


def _expect(ordered: Sequence[float], k: int) -> float:
    """Return the mean of the maxima of all subsets of k."""
    total = math.comb(len(ordered), k)
    weights = (math.comb(place, k - 1) / total for place in range(len(ordered)))
    return sum(weight * value for weight, value in zip(weights, ordered, strict=True) if weight)


def _bound_median(ordered: Sequence[float], k: int) -> tuple[float | None, float | None]:
    """Return the interval of the median best of k, which is one trial's quantile at 2^(-1/k)."""
    count, quantile, tail = len(ordered), 0.5 ** (1 / k), (1 - LEVEL) / 2
    below = 0.0  #: chance that fewer than ``place`` of the trials are below the quantile
    low = high = None
    for place in range(1, count + 1):
        below += math.comb(count, place - 1) * quantile ** (place - 1) * (1 - quantile) ** (count - place + 1)
        if below <= tail and math.isfinite(ordered[place - 1]):
            low = ordered[place - 1]
        if high is None and below >= 1 - tail:
            high = ordered[place - 1]
    return low, high

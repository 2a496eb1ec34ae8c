"""Computes tuning curves: how good the best of k trials is, and how sure that is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
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


def describe_leaders(curves: Mapping[str, Sequence[Point]], better: str = "high") -> str:
    """Return in a sentence which method leads with k trials, for each k, by the expected best of them.

    Where the leader's interval and another's overlap, or one of them has no end there, no difference is seen. Empty
    where fewer than two methods have a curve.
    """
    named = {method: {point.trials: point for point in points} for method, points in curves.items() if points}
    common = sorted(set.intersection(*map(set, named.values()))) if len(named) > 1 else []
    if not common:
        return ""
    states = [(k, _find_leader({method: points[k] for method, points in named.items()}, better)) for k in common]
    parts = []
    for (leader, is_seen), group in itertools.groupby(states, key=lambda state: state[1]):
        trials = [k for k, _ in group]
        span = f"{trials[0]} to {trials[-1]} trials" if len(trials) > 1 else f"{trials[0]} trial{'s' * (trials[0] > 1)}"
        parts.append(f"with {span} {leader} leads{'' if is_seen else ', within the bands'}")
    return f"Tuning: {'; '.join(parts)}."


def _find_leader(points: Mapping[str, Point], better: str) -> tuple[str, bool]:
    """Return whose expectation is best, and whether its interval overlaps with no other."""
    sign = -1.0 if better == "low" else 1.0
    leader = max(points, key=lambda method: sign * points[method].expected)
    one, others = points[leader], [point for method, point in points.items() if method != leader]
    ends = [(one.high, other.low) if sign < 0 else (other.high, one.low) for other in others]
    return leader, all(low is not None and high is not None and low < high for low, high in ends)

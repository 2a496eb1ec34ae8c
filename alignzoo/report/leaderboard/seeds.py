"""Folds the seeds of one setting into one number, with an interval for prompts and seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import Estimate, student


def fold(key: str, seeds: Sequence[Estimate]) -> Estimate:
    """Return the mean over seeds, with an interval for prompts and seeds.

    The seeds answer the same prompts, so the part of the prompts does not shrink with their number; the part of the
    seeds is Student's interval of their mean. Both are independent: the squares of their widths add up.
    """
    value = statistics.fmean(seed.value for seed in seeds)
    return _limit(key, _widen(value, seeds, _seed_spread([[seed.value for seed in seeds]])))


def _seed_spread(sides: Sequence[Sequence[float]]) -> float:
    """Return half the width of the interval that comes from seeds; 0 where no side has two."""
    several = [side for side in sides if len(side) > 1]
    if not several:
        return 0.0
    freedom = sum(len(side) - 1 for side in several)
    return student(freedom) * math.sqrt(sum(statistics.variance(side) / len(side) for side in several))


def _widen(value: float, parts: Sequence[Estimate], spread: float) -> Estimate:
    below = statistics.fmean(part.value - part.low for part in parts)
    above = statistics.fmean(part.high - part.value for part in parts)
    return Estimate(value, value - math.hypot(below, spread), value + math.hypot(above, spread))


def _limit(key: str, found: Estimate) -> Estimate:
    if key != "distinct_3" and NUMBERS[key].kind != "share":
        return found
    return Estimate(found.value, max(0.0, found.low), min(1.0, found.high))

"""Folds seeds into one number and subtracts settings, with intervals for prompts and seeds."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import NORMAL, Estimate
from alignzoo.evaluate.metrics import estimate_difference

Lines = Sequence[Mapping[str, Any]]

#: Student's t at 97.5 %, for 1 to 5 degrees of freedom, where the expansion below is not exact enough.
_FEW = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (Cornish-Fisher; Abramowitz and Stegun, 26.7.5)."""
    if freedom <= len(_FEW):
        return _FEW[freedom - 1]
    z, n = NORMAL, freedom
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + (z**3 + z) / 4 / n + second / n**2 + third / n**3


def fold(key: str, seeds: Sequence[Estimate]) -> Estimate:
    """Return the mean over seeds, with an interval for prompts and seeds.

    The seeds answer the same prompts, so the part of the prompts does not shrink with their number; the part of the
    seeds is Student's interval of their mean. Both are independent: the squares of their widths add up.
    """
    value = statistics.fmean(seed.value for seed in seeds)
    return _limit(key, _widen(value, seeds, _seed_spread([[seed.value for seed in seeds]])))


def subtract(key: str, a: Sequence[Lines], b: Sequence[Lines]) -> Estimate | None:
    """Return number ``key`` of setting ``a`` minus that of ``b``, each the answers of its seeds, on shared prompts.

    Each seed is compared with each (paired bootstrap); the spread of the seeds, where a side has several, is added as
    in :func:`fold`. None where no prompt is shared or the number was not measured.
    """
    table = [
        [estimate_difference(key, one, other) for other in map(_key_by_prompt, b)] for one in map(_key_by_prompt, a)
    ]
    found = [estimate for estimate in itertools.chain(*table) if estimate is not None]
    if not found or len(found) < len(a) * len(b):
        return None
    rows = [[estimate.value for estimate in row if estimate] for row in table]
    sides = [[statistics.fmean(row) for row in rows], [statistics.fmean(row) for row in zip(*rows, strict=True)]]
    return _widen(statistics.fmean(estimate.value for estimate in found), found, _seed_spread(sides))


def _key_by_prompt(lines: Lines) -> Lines:
    """Add the prompt's text to its id: datasets number their rows alike."""
    return [{**line, "id": (line["id"], line["prompt"])} for line in lines]


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

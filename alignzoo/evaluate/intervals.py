"""Estimates 95 % intervals over prompts, also of differences between two runs on the prompts they share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

LEVEL = 0.95  #: share of such intervals that hold the true value
NORMAL = 1.959963984540054  #: quantile of the normal distribution at (1 + LEVEL) / 2
RESAMPLES = 2_000

Column = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its interval, in the value's unit."""

    value: float
    low: float
    high: float

    @property
    def is_zero(self) -> bool:
        """Whether the interval holds zero: of a difference, that it may be noise."""
        return self.low <= 0 <= self.high


def wilson(successes: float, count: float) -> tuple[float, float]:
    """Return the score interval of a share (Wilson, 1927): right also near 0 and 1, where the usual one is empty."""
    if not count:
        return 0.0, 1.0
    share, z = successes / count, NORMAL**2 / count
    middle = (share + z / 2) / (1 + z)
    half = NORMAL * math.sqrt(share * (1 - share) / count + z / (4 * count)) / (1 + z)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


#: Student's t at 97.5 and 95 %, for 1 to 5 degrees of freedom, where the expansion below is not exact enough.
_FEW = {0.975: (12.7062, 4.3027, 3.1824, 2.7764, 2.5706), 0.95: (6.3138, 2.9200, 2.3534, 2.1318, 2.0150)}


def student(freedom: int, quantile: float = 0.975) -> float:
    """Return the 97.5 or 95 % quantile of Student's t (Cornish-Fisher; Abramowitz and Stegun, 26.7.5)."""
    if freedom <= len(_FEW[quantile]):
        return _FEW[quantile][freedom - 1]
    z, n = NormalDist().inv_cdf(quantile), freedom
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + (z**3 + z) / 4 / n + second / n**2 + third / n**3


def sign_test(won: int, lost: int) -> float:
    """Return the exact two-sided p of so many wins and losses, ties left out: exact also where there are few."""
    count = won + lost
    tail: float = sum(math.comb(count, place) for place in range(min(won, lost) + 1)) / 2**count
    return min(1.0, 2 * tail)


def count_wins_needed(count: int) -> int | None:
    """Return the fewest wins of ``count``, all others losses, that :func:`sign_test` tells from chance; None: none."""
    return next((won for won in range(count // 2 + 1, count + 1) if sign_test(won, count - won) <= 1 - LEVEL), None)


def bootstrap(numerators: Sequence[float] | Column, denominators: Sequence[float] | Column | None = None) -> Estimate:
    """Return sum(numerators) / sum(denominators), with a percentile interval over prompts (Efron, 1979).

    ``denominators`` default to ones, which makes it a mean. NaN where the denominators sum to zero.
    """
    top = np.asarray(numerators, float)
    below = np.ones_like(top) if denominators is None else np.asarray(denominators, float)
    return bootstrap_statistic(np.stack([top, below], 1), _ratio)


def bootstrap_median(values: Sequence[float] | Column) -> Estimate:
    """Return the median, with a percentile interval over prompts."""
    found = np.asarray(values, float)
    drawn = np.random.default_rng(0).integers(len(found), size=(RESAMPLES, len(found)))
    low, high = np.quantile(np.median(found[drawn], axis=-1), _ENDS)
    return Estimate(float(np.median(found)), float(low), float(high))


def linearise(numerators: Column, denominators: Column) -> Column:
    """Return what each prompt says of sum(numerators) / sum(denominators): values whose mean it is.

    Their spread is that of the ratio, to the first order (the delta method). NaN where the denominators sum to zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = numerators.sum() / denominators.sum()
        return np.asarray(ratio + (numerators - ratio * denominators) / denominators.mean())


def linearise_median(values: Column) -> Column:
    """Return what each prompt says of the median: above or below it, as far as its bootstrap spreads."""
    found = bootstrap_median(values)
    sides = np.sign(values - found.value)
    sides = sides - sides.mean()
    spread = (found.high - found.low) / (2 * NORMAL) * math.sqrt(len(values))
    return np.asarray(found.value + sides * (spread / (sides.std() or 1.0)))


_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def _ratio(sums: Column) -> Column:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Column = sums[:, 0] / sums[:, 1]
    return ratio


def bootstrap_statistic(columns: Column, statistic: Callable[[Column], Column]) -> Estimate:
    """Return ``statistic`` of the sums of ``columns`` (prompts, n), and its interval from resampled prompts.

    ``statistic`` takes the sums of several samples at once, (samples, n). NaN where that of all prompts is NaN.
    """
    value = float(statistic(columns.sum(0)[None])[0])
    if math.isnan(value):
        return Estimate(value, value, value)
    low, high = np.nanquantile(statistic(draw_prompts(len(columns)) @ columns), _ENDS)
    return Estimate(value, float(low), float(high))


@functools.lru_cache(maxsize=8)
def draw_prompts(count: int) -> Column:
    """Return how often each prompt is drawn in each resample: the same for every number and run."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float32)

"""Estimates 95 % intervals over prompts, also of differences between two runs on the prompts they share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def wilson(successes: float, count: int) -> tuple[float, float]:
    """Return the score interval of a share (Wilson, 1927): right also near 0 and 1, where the usual one is empty."""
    if not count:
        return 0.0, 1.0
    share, z = successes / count, NORMAL**2 / count
    middle = (share + z / 2) / (1 + z)
    half = NORMAL * math.sqrt(share * (1 - share) / count + z / (4 * count)) / (1 + z)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def bootstrap(numerators: Sequence[float] | Column, denominators: Sequence[float] | Column | None = None) -> Estimate:
    """Return sum(numerators) / sum(denominators), with a percentile interval over prompts (Efron, 1979).

    ``denominators`` default to ones, which makes it a mean. NaN where the denominators sum to zero.
    """
    top = np.asarray(numerators, float)
    below = np.ones_like(top) if denominators is None else np.asarray(denominators, float)
    return _estimate(np.stack([top, below], 1), _ratio)


def bootstrap_difference(a: tuple[Column, Column], b: tuple[Column, Column]) -> Estimate:
    """Return ratio a minus ratio b, each (numerators, denominators) over the same prompts, resampled together."""
    return _estimate(np.stack([*a, *b], 1).astype(float), lambda sums: _ratio(sums[:, :2]) - _ratio(sums[:, 2:]))


def bootstrap_median(values: Sequence[float] | Column, less: Sequence[float] | Column | None = None) -> Estimate:
    """Return the median, or the difference between the medians of two runs on the same prompts."""
    columns = np.asarray(values, float)[:, None] if less is None else np.stack([values, less], 1).astype(float)
    drawn = np.random.default_rng(0).integers(len(columns), size=(RESAMPLES, len(columns)))

    def take_medians(found: Column) -> Column:
        middle: Column = np.median(found, axis=-2)
        return middle[..., 0] - (0 if less is None else middle[..., 1])

    low, high = np.quantile(take_medians(columns[drawn]), _ENDS)
    return Estimate(float(take_medians(columns)), float(low), float(high))


_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def _ratio(sums: Column) -> Column:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Column = sums[:, 0] / sums[:, 1]
    return ratio


def _estimate(columns: Column, statistic: Callable[[Column], Column]) -> Estimate:
    """Estimate ``statistic`` of the columns' sums, and its interval from resampled rows."""
    value = float(statistic(columns.sum(0)[None])[0])
    if math.isnan(value):
        return Estimate(value, value, value)
    low, high = np.nanquantile(statistic(_draw_prompts(len(columns)) @ columns), _ENDS)
    return Estimate(value, float(low), float(high))


@functools.lru_cache(maxsize=8)
def _draw_prompts(count: int) -> Column:
    """Return how often each prompt is drawn in each resample: the same for every number and run."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float32)

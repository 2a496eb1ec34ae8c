"""Compares many settings at once: intervals that hold together, over prompts and seeds.

The differences' intervals share one critical value, the 95 % quantile of the largest studentised deviation among all
of them (max-t; Romano and Wolf, 2005). Its distribution comes from resampled prompts (a bootstrap of clusters, each
resample with its own standard errors) and from drawn seeds (normal, their variance as uncertain as their number
leaves it). Prompts are crossed with settings, seeds are not: the variance is that of the mean over seeds, prompt by
prompt, and what the seeds add beyond it (the two-way layout of Cameron, Gelbach and Miller, 2011).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from alignzoo.evaluate.intervals import LEVEL, Column, Estimate, draw_prompts, student
from alignzoo.evaluate.seed_spread import SeedSpread

POWER = 0.8  #: of the announced smallest difference
TOLERANCE = 1e-9  #: of a prompt's difference, relative to the largest: below, it is a rounding error


@dataclass(frozen=True)
class Comparisons:
    """The differences between settings, each the first less the second, with one critical value for all of them."""

    means: Column
    """(settings,)"""

    pairs: Column
    """(comparisons, 2): the settings' places."""

    errors: Column
    """(comparisons,): standard errors, in the number's unit."""

    differing: Column
    """(comparisons,): how many prompts differ; of equal prompts nothing can be learnt."""

    prompts: int
    """Different ones: a prompt that occurs several times counts once."""

    critical: float
    """In standard errors: of intervals that all hold at 95 %."""

    critical_equal: float
    """The same at 90 %, for two one-sided tests at 5 % each (Schuirmann, 1987)."""

    freedom: float
    """Degrees of freedom of a typical standard error (Satterthwaite, 1946)."""

    @property
    def needed(self) -> int:
        """How many prompts must differ before the exact sign-flip test could tell any difference, corrected."""
        return count_needed(len(self.pairs))

    def subtract(self, one: int, other: int) -> Estimate:
        """Return setting ``one`` less setting ``other``, with the simultaneous interval.

        Where too few prompts differ to tell, the interval holds zero; where their squares are beyond what a float
        holds, it has no ends.

        Raises:
            KeyError: they were not compared.
        """
        place = self._find(one, other)
        value = float(self.means[one] - self.means[other])
        half = self.critical * float(self.errors[place])
        low, high = (value - half, value + half) if math.isfinite(half) else (-math.inf, math.inf)
        if self.differing[place] < self.needed:
            low, high = min(low, 0.0), max(high, 0.0)
        return Estimate(value, low, high)

    def is_equal(self, one: int, other: int) -> bool:
        """Tell whether no prompt at all differs."""
        return bool(self.differing[self._find(one, other)] == 0)

    def is_within(self, one: int, other: int, distance: float) -> bool:
        """Tell whether both one-sided tests say that the difference is smaller than ``distance``."""
        place = self._find(one, other)
        half = self.critical_equal * float(self.errors[place])
        enough = self.prompts >= self.needed
        return enough and abs(float(self.means[one] - self.means[other])) + half < distance

    @property
    def smallest(self) -> float | None:
        """The difference that is told in 80 % of such boards, in the number's unit; None where none could be."""
        known = self.errors[self.errors > 0]
        if not len(known) or self.prompts < self.needed:
            return None
        spread = math.sqrt(1 + self.critical**2 / (2 * self.freedom))  # noncentral t (Abramowitz, Stegun, 26.7.10)
        reach = self.critical * (1 - 1 / (4 * self.freedom)) + NormalDist().inv_cdf(POWER) * spread
        return reach * float(np.median(known))

    def _find(self, one: int, other: int) -> int:
        found = np.flatnonzero((np.sort(self.pairs, 1) == sorted((one, other))).all(1))
        if not len(found):
            raise KeyError((one, other))
        return int(found[0])


def count_needed(comparisons: int) -> int:
    """Return how many prompts must differ for 2 ** (1 - prompts), the sign-flip test's least p, to be small enough."""
    return 1 + math.ceil(math.log2(max(1, comparisons) / (1 - LEVEL)))


@np.errstate(over="ignore", invalid="ignore")
def compare_settings(
    values: Sequence[Column],
    prompts: Sequence[Hashable] | None = None,
    against: int | None = None,
    unit: float = 0.0,
) -> Comparisons:
    """Compare all settings with each other or, Dunnett's way, with the one at the place ``against``.

    Args:
        values: of each setting (seeds, rows), the rows in the same order; a setting's number is their mean.
        prompts: what tells the rows' prompts apart; rows with the same prompt are resampled together.
        against: the baseline's place, or None: all pairs.
        unit: how far one prompt may move the number's sum, where that is bounded (1 of a share); it smooths settings
            that do not differ on any prompt.
    """
    clustered = [_sum_clusters(one, prompts) for one in values]
    count = clustered[0].shape[1]
    means, pairs = np.array([one.mean() for one in values]), _list_pairs(len(values), against)
    seeds = SeedSpread.estimate(clustered)
    columns = np.stack([one.mean(0) for one in clustered], 1)
    apart = columns[:, pairs[:, 0]] - columns[:, pairs[:, 1]]
    small = TOLERANCE * float(np.abs(columns).max(initial=0.0))
    differing = (np.abs(apart) > small).sum(0)
    pseudo = _smooth(apart, differing, unit)
    own, more = _square_errors(((apart - apart.mean(0)) ** 2).sum(0), pseudo, count), seeds.square_errors(pairs)
    deviations = _draw_deviations(apart, pseudo, seeds, pairs)
    freedom = _typical_freedom(own, more, count, seeds.typical_freedom)
    critical, critical_equal = (max(found) for found in zip(_quantiles(deviations), _single(count), strict=True))
    return Comparisons(means, pairs, np.sqrt(own + more), differing, count, critical, critical_equal, freedom)


def compare_two(after: Column, before: Column, unit: float = 0.0) -> Comparisons:
    """Compare ``after`` (place 0) with ``before`` (place 1), each (prompts,), by themselves: corrected for nothing."""
    return compare_settings([after[None], before[None]], unit=unit)


def _list_pairs(settings: int, against: int | None) -> Column:
    if against is None:
        return np.stack(np.triu_indices(settings, 1), 1)
    return np.array([[place, against] for place in range(settings) if place != against]).reshape(-1, 2)


def _sum_clusters(values: Column, prompts: Sequence[Hashable] | None) -> Column:
    """Return (seeds, clusters) with the same mean: each cluster's share of what its rows deviate from it."""
    if prompts is None or len(set(prompts)) == len(prompts):
        return values
    known = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    places, count = np.array([known[prompt] for prompt in prompts]), len(known)
    mean = values.mean(1, keepdims=True)
    sums = np.stack([np.bincount(places, row, count) for row in values - mean])
    return np.asarray(mean + sums * count / len(places))


def _smooth(apart: Column, differing: Column, unit: float) -> Column:
    """Return each comparison's pseudo-difference: two prompts, one each way, are added to the spread.

    Its size is that of the prompts that differ (root mean square), or the unit where none does. For shares it is the
    adjusted interval of Bonett and Price (2012), without which few equal differences have no width.
    """
    squares = (apart**2).sum(0)
    return np.where(differing > 0, np.sqrt(squares / np.maximum(differing, 1)), unit)


def _square_errors(squares: Column, pseudo: Column, count: int) -> Column:
    return np.asarray((squares + 2 * pseudo**2) / (count * max(1, count - 1)))


def _draw_deviations(apart: Column, pseudo: Column, seeds: SeedSpread, pairs: Column) -> Column:
    """Return the largest studentised deviation of each resample."""
    count = len(apart)
    drawn = draw_prompts(count)
    centred = (apart - apart.mean(0)).astype(np.float32)
    moved = drawn @ centred / count
    squares = _square_errors(drawn @ centred**2 - count * moved**2, pseudo, count)
    if seeds.typical_freedom:
        effects = seeds.draw_effects()
        moved = moved + effects[:, pairs[:, 0]] - effects[:, pairs[:, 1]]
        squares = squares + seeds.square_errors(pairs)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.abs(moved) / np.sqrt(squares)
    return np.asarray(np.where(squares > 0, found, 0.0).max(1, initial=0.0))


def _quantiles(deviations: Column) -> list[float]:
    return [float(found) for found in np.quantile(deviations, [LEVEL, 2 * LEVEL - 1])]


def _single(count: int) -> list[float]:
    """Return what one comparison takes, the least: resampled equal differences deviate by nothing."""
    return [student(max(1, count - 1), quantile) for quantile in ((1 + LEVEL) / 2, LEVEL)]


def _typical_freedom(own: Column, more: Column, prompts: int, seeds: float) -> float:
    first, second = float(np.median(own)) if len(own) else 0.0, float(np.median(more)) if len(more) else 0.0
    parts = first**2 / max(1, prompts - 1) + (second**2 / seeds if seeds else 0.0)
    return (first + second) ** 2 / parts if parts else float(max(1, prompts - 1))

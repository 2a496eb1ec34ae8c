"""Estimates how much a setting's number varies between seeds, and draws by how much it may be off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignzoo.evaluate.intervals import RESAMPLES, Column

UNLIKE = 0.99  #: quantile above which one setting's spread is not taken to be that of the others


@dataclass(frozen=True)
class SeedSpread:
    """The variances between seeds: one for all settings, or each its own where they are plainly unlike."""

    counts: Column
    """(settings,): seeds."""

    group: Column
    """(settings,): the place of each one's variance."""

    between: Column
    """(variances,): of one seed's mean over the prompts; holds ``rest``."""

    freedom: Column
    """(variances,): degrees of freedom."""

    rest: float
    """The part that other prompts would have changed: the prompts' own spread has it already."""

    @classmethod
    def estimate(cls, values: Sequence[Column]) -> SeedSpread:
        """Estimate from each setting's values, (seeds, prompts); without any second seed, no spread."""
        counts = np.array([len(one) for one in values])
        several: list[int] = np.flatnonzero(counts > 1).tolist()
        none = np.zeros(len(values), int)
        if not len(several):
            return cls(counts, none, np.zeros(1), np.zeros(1, int), 0.0)
        own = np.array([values[place].mean(1).var(ddof=1) for place in several])
        freedom = counts[several] - 1
        pooled = float((own * freedom).sum() / freedom.sum())
        rest = _estimate_rest([values[place] for place in several], int(freedom.sum()))
        if not _are_unlike(own, freedom):
            return cls(counts, none, np.array([pooled]), freedom.sum(keepdims=True), rest)
        group = np.full(len(values), len(several))  # settings with one seed: the pooled variance, last
        group[several] = np.arange(len(several))
        return cls(counts, group, np.append(own, pooled), np.append(freedom, freedom.sum()), rest)

    @property
    def typical_freedom(self) -> float:
        """The degrees of freedom of most settings' variance; zero without a second seed."""
        return float(np.median(self.freedom[self.group]))

    def square_errors(self, pairs: Column) -> Column:
        """Return what the seeds add to each comparison's squared standard error."""
        own = np.maximum(0, self.between - self.rest)[self.group] / self.counts
        return np.asarray(own[pairs].sum(1))

    def draw_effects(self) -> Column:
        """Return (resamples, settings): effects with a variance that may be the true one, as far as so few seeds say.

        With the estimated variance instead, which is often zero by chance, 91 % of the intervals of two seeds hold.
        """
        rng = np.random.default_rng(1)
        true = self.between * self.freedom / rng.chisquare(self.freedom, (RESAMPLES, len(self.freedom)))
        spread = np.sqrt(np.maximum(0, true - self.rest)[:, self.group] / self.counts)
        return np.asarray(rng.normal(0, 1, spread.shape) * spread)


def _estimate_rest(values: Sequence[Column], freedom: int) -> float:
    """Return the variance of a seed's mean that comes from seeds doing better on some prompts (a two-way layout)."""
    prompts = values[0].shape[1]
    left = [one - one.mean(1, keepdims=True) - one.mean(0) + one.mean() for one in values]
    squares = sum(float((one**2).sum()) for one in left)
    return squares / (freedom * max(1, int(prompts) - 1) * int(prompts))


def _are_unlike(own: Column, freedom: Column) -> bool:
    """Tell whether the largest variance is larger beside the pooled one than equal ones ever are (Cochran's C)."""
    drawn = np.random.default_rng(2).chisquare(freedom, (RESAMPLES, len(freedom))) / freedom
    expected = drawn.max(1) / (drawn * freedom).sum(1) * freedom.sum()
    pooled = float((own * freedom).sum() / freedom.sum())
    return pooled > 0 and bool(own.max() / pooled > np.quantile(expected, UNLIKE))

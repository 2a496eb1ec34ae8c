"""Draws made-up studies whose truth is known: settings, seeds and prompts, without a model.

A pair's margin under one trained model is the prompt's hardness, the setting's strength, the seed's, how this setting
does on this prompt, and the rest. Told apart is what has a margin above zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

#: Standard deviations of a margin's parts: two settings then differ, prompt by prompt, by 0.5 (of 1) in the share.
HARDNESS, SETTING_BY_PROMPT, REST = 1.0, 0.5, 0.5
MIDDLE = 0.5  #: mean margin: 66 % of the pairs are told apart
SEEDS = 0.05  #: between seeds: 1.5 points of the share


@dataclass(frozen=True)
class Truth:
    """What a study is drawn from."""

    strengths: Sequence[float]
    """Mean margin of each setting above the middle."""

    prompts: int
    seeds: int = 1
    share: bool = True
    """Whether the number is the share told apart, or else the mean margin."""

    seed_spreads: Sequence[float] | None = None
    """Between seeds, a setting; default: 0.05, and with one seed none: the claim is then about the runs."""

    repeated: int = 1
    """How often each prompt occurs."""

    @property
    def values(self) -> np.ndarray:
        """The true number of each setting."""
        means = MIDDLE + np.asarray(self.strengths, float)
        if not self.share:
            return means
        spread = np.sqrt(HARDNESS**2 + SETTING_BY_PROMPT**2 + REST**2 + self.spreads**2)
        return np.array([NormalDist().cdf(part) for part in means / spread])

    @property
    def spreads(self) -> np.ndarray:
        """Standard deviation between seeds, a setting."""
        default = [SEEDS if self.seeds > 1 else 0.0] * len(self.strengths)
        return np.asarray(default if self.seed_spreads is None else self.seed_spreads, float)


def draw_study(truth: Truth, rng: np.random.Generator) -> np.ndarray:
    """Return the number of each prompt, as (settings, seeds, prompts)."""
    shape = len(truth.strengths), truth.seeds, truth.prompts // truth.repeated
    margins = rng.normal(0, REST, shape)
    margins += rng.normal(0, HARDNESS, shape[2])
    margins += rng.normal(0, SETTING_BY_PROMPT, (shape[0], 1, shape[2]))
    margins += truth.spreads[:, None, None] * rng.normal(0, 1, (*shape[:2], 1))
    margins += MIDDLE + np.asarray(truth.strengths, float)[:, None, None]
    margins = np.repeat(margins, truth.repeated, axis=2)
    return (margins > 0).astype(float) if truth.share else margins


def separate(difference: float, truth: Truth) -> Truth:
    """Return the study whose first setting is better than all others, which are alike, by ``difference``."""
    if not truth.share:
        return replace(truth, strengths=[difference] + [0.0] * (len(truth.strengths) - 1))
    spread = float(np.sqrt(HARDNESS**2 + SETTING_BY_PROMPT**2 + REST**2 + truth.spreads[0] ** 2))
    normal = NormalDist()
    lower = min(normal.cdf(MIDDLE / spread), (1 - difference) / 2 + 0.1, 0.97 - difference)
    others, first = (spread * normal.inv_cdf(share) - MIDDLE for share in (lower, lower + difference))
    return replace(truth, strengths=[first] + [others] * (len(truth.strengths) - 1))

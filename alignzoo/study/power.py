"""Computes before a study the smallest difference that it will be able to show, by the boards' own comparison."""

from __future__ import annotations

import math

import numpy as np

from alignzoo.evaluate.simultaneous import compare_settings
from alignzoo.study.settings import START, Settings

SIZES = (250, 1000)  #: prompts from which the needed number is computed


def compute_smallest(settings: Settings, prompts: int) -> float | None:
    """Return the smallest difference to the baseline that is seen in 80 % of such studies, in the number's unit.

    Values are drawn with the spreads of ``study.assume``, and compared as the test's are. None where so few prompts
    cannot show any difference.
    """
    rng = np.random.default_rng(0)
    count = len(settings.methods) + (settings.baseline == START)
    if count < 2 or prompts < 1:
        return None
    between, seeds = settings.assume["prompts"] / math.sqrt(2), settings.assume["seeds"]
    own = rng.normal(0, between, (count, 1, prompts))
    effects = rng.normal(0, 1, (count, settings.seeds, 1))
    effects = effects - effects.mean(1, keepdims=True)
    effects *= seeds / (effects.std(1, ddof=1, keepdims=True) + (seeds == 0))
    return compare_settings(list(own + effects), against=0).smallest


def find_needed_prompts(settings: Settings) -> int | None:
    """Return about how many test prompts would show the difference that matters; None: no number would.

    The square of the smallest difference is a part that shrinks with the prompts, and one of the seeds that does not:
    both follow from two sizes.
    """
    squares = [(compute_smallest(settings, size) or math.inf) ** 2 for size in SIZES]
    shrinking = (squares[0] - squares[1]) / (1 / SIZES[0] - 1 / SIZES[1])
    staying = max(0.0, squares[1] - shrinking / SIZES[1])
    left = settings.smallest**2 - staying
    return math.ceil(shrinking / left) if math.isfinite(shrinking) and left > 0 else None

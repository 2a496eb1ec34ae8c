"""Estimates the win rate that a judge would give if both completions were equally long.

The verdicts are regressed on the difference in length, and read off where it is zero: AlpacaEval 2's regression (Dubois
et al., 2024, "Length-Controlled AlpacaEval", arXiv 2404.04475) without its term for a prompt's difficulty, which takes
many models' verdicts on the same prompts to estimate.
"""

from __future__ import annotations

import numpy as np

from alignzoo.evaluate.intervals import LEVEL, Column, Estimate, draw_prompts, wilson

#: Ridge on the slope: a normal prior of standard deviation 2.5 (a weakly informative scale, Gelman et al., 2008). It
#: keeps the slope finite where the lengths alone tell wins from losses; the intercept has none.
RIDGE = 1 / 2.5**2

STEPS = 60  #: of Newton's method at most; ten do where lengths do not separate wins from losses
LARGEST_STEP = 1.0  #: in logits, so that no step overshoots into where the likelihood is flat
EXACT = 1e-7  #: logits within which a step counts as none


def estimate_controlled(wins: Column, differences: Column) -> Estimate:
    """Return the win rate at equal length, with a 95 % interval over prompts.

    The interval is a percentile one, the regression fitted anew on each resample of the prompts, and never narrower
    than Wilson's for that share of so many prompts: where all verdicts are alike, resamples do not differ.

    Args:
        wins: (prompts,), 1 for a win, 0 for a loss, 0.5 for a tie.
        differences: (prompts,), the judged completion's length less the other's, in any unit.
    """
    lengths, value = scale_lengths(differences), _read_off_all(wins, scale_lengths(differences))
    least = wilson(value * len(wins), len(wins))
    if value in (0.0, 1.0):
        return Estimate(value, *least)
    weights = draw_prompts(len(wins)).astype(float)
    drawn = _read_off(wins, lengths, weights, np.repeat(fit(wins, lengths)[None], len(weights), 0))
    ends = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Estimate(value, min(value, float(ends[0]), least[0]), max(value, float(ends[1]), least[1]))


def linearise_controlled(wins: Column, differences: Column) -> Column:
    """Return what each prompt says of the win rate at equal length, (prompts,): values whose mean it is.

    Their spread is that of the win rate, to the first order: the influence of a prompt on the intercept (Huber's
    sandwich), times the slope of the logistic function.
    """
    lengths, value = scale_lengths(differences), _read_off_all(wins, scale_lengths(differences))
    if value in (0.0, 1.0):
        return np.full(len(wins), value)
    intercept, slope = fit(wins, lengths)
    chance = _logistic(intercept + slope * lengths)
    design = np.stack([np.ones_like(lengths), lengths], 1)
    curvature = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag([0.0, RIDGE])
    pulls = np.linalg.solve(curvature, (design * (wins - chance)[:, None]).T)[0]
    return np.asarray(value + value * (1 - value) * len(wins) * (pulls - pulls.mean()))


def scale_lengths(differences: Column) -> Column:
    """Return tanh of the differences over their standard deviation, as AlpacaEval 2 has it; zeros where all are equal.

    Where all are equal, and not zero, nothing tells what length does: the win rate stays as it is.
    """
    spread = float(np.std(differences))
    return np.tanh(differences / spread) if spread > 0 else np.zeros(len(differences))


def fit(wins: Column, lengths: Column) -> Column:
    """Return intercept and slope, in logits, of the regression of ``wins`` on scaled ``lengths``, (2,)."""
    return np.asarray(_fit(wins, lengths, np.ones((1, len(wins))), np.zeros((1, 2)))[0])


def _read_off_all(wins: Column, lengths: Column) -> float:
    return float(_read_off(wins, lengths, np.ones((1, len(wins))), np.zeros((1, 2)))[0])


def _read_off(wins: Column, lengths: Column, weights: Column, start: Column) -> Column:
    """Return the win rate at equal length under each row of ``weights`` (samples, prompts), (samples,).

    Of nothing but wins or losses it is 1 or 0, as the intercept has no end; where no length differs, the raw one.
    """
    share = weights @ wins / weights.sum(1)
    if not lengths.any():
        return np.asarray(share)
    mixed = (share > 0) & (share < 1)
    found = np.where(share > 0.5, 1.0, 0.0)
    if mixed.any():
        found[mixed] = _logistic(_fit(wins, lengths, weights[mixed], start[mixed])[:, 0])
    return found


def _fit(wins: Column, lengths: Column, weights: Column, start: Column) -> Column:
    """Return intercept and slope under each row of ``weights``, (samples, 2), by Newton's method from ``start``."""
    found = start.copy()
    for _ in range(STEPS):
        chance = _logistic(found[:, :1] + found[:, 1:] * lengths)
        error = weights * (wins - chance)
        spread = weights * chance * (1 - chance)
        up, along = error.sum(1), error @ lengths - RIDGE * found[:, 1]
        first, both, second = spread.sum(1), spread @ lengths, spread @ lengths**2 + RIDGE
        size = first * second - both**2
        step = np.stack([second * up - both * along, first * along - both * up], 1) / size[:, None]
        step = np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        found += step
        if np.abs(step).max() < EXACT:
            break
    return found


def _logistic(logits: Column) -> Column:
    return np.asarray(1 / (1 + np.exp(-logits)))

"""The win rate at equal length: against scipy's optimum, at its limits, and where lengths tell wins from losses."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import scipy.optimize

from alignzoo.evaluate.intervals import Column, wilson
from alignzoo.evaluate.length_control import (
    RIDGE,
    estimate_controlled,
    fit,
    linearise_controlled,
    scale_lengths,
)


def draw(count: int = 120, intercept: float = 0.4, slope: float = 1.5, shift: float = 0.3) -> tuple[Column, Column]:
    """Return verdicts of a judge that likes length, some of them ties, and the differences in length."""
    random = np.random.default_rng(3)
    lengths = random.normal(shift, 1, count)
    chance = 1 / (1 + np.exp(-intercept - slope * np.tanh(lengths / lengths.std())))
    wins = (random.random(count) < chance).astype(float)
    wins[:5] = 0.5
    return wins, 40 * lengths


def minimise(wins: Column, lengths: Column) -> Column:
    """Return scipy's optimum of the penalised likelihood."""

    def loss(found: Column) -> float:
        logits = found[0] + found[1] * lengths
        return float(np.sum(np.logaddexp(0, logits) - wins * logits) + RIDGE / 2 * found[1] ** 2)

    return np.asarray(scipy.optimize.minimize(loss, np.zeros(2), tol=1e-12).x)


SEPARATED = np.array([-3.0, -2, -1, 1, 2, 3])


@pytest.mark.parametrize(
    ("wins", "differences"),
    [draw(), ((SEPARATED > 0).astype(float), SEPARATED), ((SEPARATED > 1).astype(float), SEPARATED)],
    ids=["mixed", "separated", "separated off zero"],
)
def test_the_fit_is_scipys(wins: Column, differences: Column) -> None:
    lengths = scale_lengths(differences)
    assert fit(wins, lengths) == pytest.approx(minimise(wins, lengths), abs=1e-5)
    value = 1 / (1 + np.exp(-fit(wins, lengths)[0]))
    assert estimate_controlled(wins, differences).value == pytest.approx(value)


def test_the_value_by_hand() -> None:
    """Two of three wins where longer by one, one of three where shorter by one: 50 % in the middle, by symmetry."""
    wins, differences = np.array([1.0, 1, 0, 1, 0, 0]), np.array([1.0, 1, 1, -1, -1, -1])
    assert scale_lengths(differences) == pytest.approx(np.tanh(differences))
    assert estimate_controlled(wins, differences).value == pytest.approx(0.5)


@pytest.mark.parametrize("difference", [0.0, -12.0])
def test_of_equal_differences_it_is_the_raw_win_rate(difference: float) -> None:
    wins = np.array([1.0] * 6 + [0.5] * 2 + [0.0] * 4)
    found = estimate_controlled(wins, np.full(12, difference))
    assert found.value == wins.mean()
    assert found.low <= wilson(7, 12)[0]
    assert found.high >= wilson(7, 12)[1]
    assert linearise_controlled(wins, np.full(12, difference)) == pytest.approx(wins)


def test_a_judge_that_prefers_the_longer_one_says_nothing_at_equal_length() -> None:
    """It prefers 79 % of the longer completions' run; with lengths out of it, about half."""
    differences = np.random.default_rng(0).normal(0.8, 1, 400)
    wins = (differences > 0).astype(float)
    found = estimate_controlled(wins, differences)
    assert wins.mean() > 0.75
    assert found.low < 0.5 < found.high
    assert abs(found.value - 0.5) < 0.12
    shorter = estimate_controlled(1 - wins, differences)
    assert shorter.value == pytest.approx(1 - found.value)


def test_nothing_but_wins_has_wilsons_interval() -> None:
    differences = np.linspace(-5, 5, 20)
    assert astuple(estimate_controlled(np.ones(20), differences)) == (1.0, *wilson(20, 20))
    assert astuple(estimate_controlled(np.zeros(20), differences)) == (0.0, *wilson(0, 20))
    assert linearise_controlled(np.ones(20), differences).tolist() == [1.0] * 20


def test_one_loss_among_wins_keeps_a_finite_fit() -> None:
    wins = np.ones(20)
    wins[3] = 0.0
    found = estimate_controlled(wins, np.linspace(-5, 5, 20))
    assert 0.8 < found.value < 1
    assert found.low <= wilson(20 * found.value, 20)[0]
    assert np.isfinite(fit(wins, scale_lengths(np.linspace(-5, 5, 20)))).all()


def test_what_each_prompt_says_spreads_as_the_win_rate_does() -> None:
    wins, differences = draw(400)
    found, said = estimate_controlled(wins, differences), linearise_controlled(wins, differences)
    assert said.mean() == pytest.approx(found.value)
    assert 2 * 1.96 * said.std() / 20 == pytest.approx(found.high - found.low, rel=0.1)


def test_its_interval_holds_the_truth() -> None:
    """Also where most completions are shorter; of 100 intervals 95 should, and 87 is 3.7 standard deviations below."""
    random, held = np.random.default_rng(5), 0
    truth = 1 / (1 + np.exp(-0.4))
    for _ in range(100):
        lengths = random.normal(-0.7, 1, 60)
        wins = (random.random(60) < 1 / (1 + np.exp(-0.4 - 1.5 * np.tanh(lengths)))).astype(float)
        found = estimate_controlled(wins, lengths)
        held += found.low <= truth <= found.high
    assert held >= 87

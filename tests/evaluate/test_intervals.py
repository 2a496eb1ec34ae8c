"""Intervals against scipy's and statsmodels', and on what is known."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from alignzoo.evaluate.intervals import (
    Estimate,
    bootstrap,
    bootstrap_median,
    linearise,
    linearise_median,
    sign_test,
    student,
    wilson,
)


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 48), (48, 48), (24, 48), (3, 7), (45.5, 48)])
def test_wilson_is_statsmodels(successes: float, count: int) -> None:
    low, high = proportion_confint(successes, count, alpha=0.05, method="wilson")
    assert wilson(successes, count) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-12)


def test_of_nothing_a_share_may_be_anything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def sample(count: int = 60) -> np.ndarray:
    return np.random.default_rng(1).gamma(2.0, 3.0, count)


def scipys(data: tuple[np.ndarray, ...], statistic: object, paired_: bool = False) -> tuple[float, float]:
    found = scipy.stats.bootstrap(
        data, statistic, paired=paired_, method="percentile", n_resamples=20_000, vectorized=True, rng=5
    )
    return found.confidence_interval.low, found.confidence_interval.high


def close(found: Estimate, ends: tuple[float, float]) -> bool:
    """Allow for the noise of 2,000 resamples: a twentieth of the interval's width."""
    width = ends[1] - ends[0]
    return abs(found.low - ends[0]) < width / 20 and abs(found.high - ends[1]) < width / 20


def test_a_mean_is_scipys() -> None:
    found = bootstrap(sample())
    assert found.value == pytest.approx(sample().mean())
    assert close(found, scipys((sample(),), np.mean))


def test_a_ratio_is_scipys() -> None:
    top, below = sample(), sample() + np.random.default_rng(2).uniform(1, 9, 60)
    found = bootstrap(top, below)
    assert found.value == pytest.approx(top.sum() / below.sum())
    assert close(found, scipys((top, below), lambda a, b, axis: a.sum(axis) / b.sum(axis), True))


def test_a_median_is_scipys() -> None:
    found = bootstrap_median(sample(61))
    assert found.value == np.median(sample(61))
    assert close(found, scipys((sample(61),), np.median))


def test_nothing_over_nothing_is_no_number() -> None:
    assert all(map(math.isnan, astuple(bootstrap([0, 0], [0, 0]))))


def test_a_linearised_ratio_spreads_as_the_ratio_does() -> None:
    top, below = sample(), sample() + np.random.default_rng(2).uniform(1, 9, 60)
    values = linearise(top, below)
    assert values.mean() == pytest.approx(top.sum() / below.sum())
    low, high = scipys((top, below), lambda a, b, axis: a.sum(axis) / b.sum(axis), True)
    assert 2 * 1.96 * values.std() / math.sqrt(60) == pytest.approx(high - low, rel=0.05)


def test_a_linearised_median_spreads_as_the_median_does() -> None:
    values = linearise_median(sample(61))
    assert values.mean() == pytest.approx(np.median(sample(61)))
    low, high = scipys((sample(61),), np.median)
    assert 2 * 1.96 * values.std() / math.sqrt(61) == pytest.approx(high - low, rel=0.1)
    assert (linearise_median(np.full(9, 4.0)) == 4.0).all()


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (5, 0), (0, 6), (9, 2), (7, 7), (30, 18)])
def test_the_sign_test_is_scipys(won: int, lost: int) -> None:
    expected = scipy.stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_test(won, lost) == pytest.approx(expected)


@pytest.mark.parametrize("quantile", [0.975, 0.95])
def test_the_quantiles_of_t_are_scipys(quantile: float) -> None:
    for freedom in (*range(1, 12), 30, 100):
        assert student(freedom, quantile) == pytest.approx(scipy.stats.t.ppf(quantile, freedom), rel=1e-3)


def test_the_same_numbers_have_the_same_interval() -> None:
    assert bootstrap(sample()) == bootstrap(sample())


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """95 % of 400 samples of 60, give or take three standard errors."""
    generator = np.random.default_rng(7)
    held = [(found := bootstrap(generator.normal(2, 1, 60))).low <= 2 <= found.high for _ in range(400)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.035)

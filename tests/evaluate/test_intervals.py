"""Intervals against scipy's and statsmodels', and on what is known."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from alignzoo.evaluate.intervals import Estimate, bootstrap, bootstrap_difference, bootstrap_median, wilson


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


def test_a_paired_difference_is_scipys() -> None:
    """Far narrower than that of two unrelated samples: what the prompts have in common drops out."""
    first = sample()
    second = first + np.random.default_rng(3).normal(0.5, 0.5, 60)
    ones = np.ones(60)
    found = bootstrap_difference((second, ones), (first, ones))
    assert found.value == pytest.approx((second - first).mean())
    assert close(found, scipys((second - first,), np.mean))
    assert not found.is_zero
    assert found.high - found.low < (bootstrap(first).high - bootstrap(first).low) / 3


def test_equal_runs_differ_by_nothing() -> None:
    columns = sample(), sample() + 1
    assert bootstrap_difference(columns, columns) == Estimate(0, 0, 0)
    assert bootstrap_median(sample(), sample()) == Estimate(0, 0, 0)
    assert bootstrap_difference(columns, columns).is_zero


def test_a_shift_of_the_median_is_found() -> None:
    found = bootstrap_median(sample() + 2, sample())
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


def test_nothing_over_nothing_is_no_number() -> None:
    assert all(map(math.isnan, astuple(bootstrap([0, 0], [0, 0]))))
    assert math.isnan(bootstrap_difference((np.zeros(2), np.zeros(2)), (np.ones(2), np.ones(2))).value)


def test_the_same_numbers_have_the_same_interval() -> None:
    assert bootstrap(sample()) == bootstrap(sample())


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """95 % of 400 samples of 60, give or take three standard errors."""
    generator = np.random.default_rng(7)
    held = [(found := bootstrap(generator.normal(2, 1, 60))).low <= 2 <= found.high for _ in range(400)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.035)

"""Tuning curves: the expectation over all subsets, and the exact interval of the median best."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alignzoo.study.tuning_curve import Point, compute_tuning_curve, describe_leaders


def test_the_expected_best_is_the_mean_over_all_ways_to_take_so_many() -> None:
    scores = [0.3, 0.9, 0.5, 0.7, 0.1]
    for point in compute_tuning_curve(scores):
        subsets = [max(taken) for taken in itertools.combinations(scores, point.trials)]
        assert point.expected == pytest.approx(np.mean(subsets))


def test_of_a_number_that_is_better_low_the_lowest_is_the_best() -> None:
    high = compute_tuning_curve([-0.3, -0.9, -0.5, -0.7] * 3)
    for one, other in zip(compute_tuning_curve([0.3, 0.9, 0.5, 0.7] * 3, "low"), high, strict=True):
        assert one.expected == pytest.approx(-other.expected)
        assert (one.low, one.high) == tuple(None if end is None else -end for end in (other.high, other.low))


def test_trials_that_cannot_win_count_as_worse_than_all() -> None:
    points = compute_tuning_curve([None, 0.4, None, 0.8])
    assert [point.trials for point in points] == [3, 4]  # of two trials, none may be able to win
    assert points[0].expected == pytest.approx(0.75 * 0.8 + 0.25 * 0.4)  # 0.4 where 0.8 is left out
    assert points[1].expected == 0.8
    assert compute_tuning_curve([None, None]) == []


def test_few_trials_do_not_bound_the_best_of_many() -> None:
    points = compute_tuning_curve([0.1, 0.2, 0.3, 0.4])
    assert all(point.high is None for point in points)  # 0.5 ** 4 = 6 % that all four are below the median
    assert points[3].low == 0.2


@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_interval_holds_the_median_best_in_at_least_95_percent(k: int) -> None:
    rng, count = np.random.default_rng(0), 16
    median = 0.5 ** (1 / k)  # of the best of k uniform values
    held = 0
    for _ in range(2000):
        point = compute_tuning_curve(rng.uniform(size=count).tolist())[k - 1]
        held += (point.low is None or point.low <= median) and (point.high is None or median <= point.high)
    assert held / 2000 >= 0.945


def test_where_curves_cross_is_told_and_whether_the_bands_tell_them_apart() -> None:
    steady = [Point(1, 0.6, 0.5, 0.7), Point(2, 0.6, 0.5, 0.7), Point(3, 0.6, 0.5, 0.7)]
    rising = [Point(1, 0.2, 0.1, 0.3), Point(2, 0.5, 0.4, 0.6), Point(3, 0.9, 0.8, 0.95)]
    assert describe_leaders({"sft": steady, "dpo": rising}) == (
        "Tuning: with 1 trial sft leads; with 2 trials sft leads, within the bands; with 3 trials dpo leads."
    )


def test_of_a_number_that_is_better_low_the_lowest_leads() -> None:
    low, high = [Point(2, 0.1, 0.05, 0.2)], [Point(2, 0.5, 0.4, 0.6)]
    assert describe_leaders({"a": high, "b": low}, "low") == "Tuning: with 2 trials b leads."
    assert describe_leaders({"a": high, "b": low}, "high") == "Tuning: with 2 trials a leads."


def test_a_band_without_an_end_tells_nothing_apart() -> None:
    curves = {"a": [Point(1, 0.9, None, 0.95), Point(2, 0.9, None, 0.95)], "b": [Point(1, 0.1, 0.0, 0.2)]}
    assert describe_leaders(curves) == "Tuning: with 1 trial a leads, within the bands."


def test_three_methods_are_compared_with_the_leader_alone() -> None:
    curves = {"a": [Point(1, 0.9, 0.8, 1.0)], "b": [Point(1, 0.3, 0.2, 0.5)], "c": [Point(1, 0.31, 0.2, 0.5)]}
    assert describe_leaders(curves) == "Tuning: with 1 trial a leads."


@pytest.mark.parametrize(
    "curves", [{}, {"a": [Point(1, 0.5, None, None)]}, {"a": [Point(1, 0.5, None, None)], "b": []}]
)
def test_one_curve_has_nothing_to_cross(curves: dict[str, list[Point]]) -> None:
    assert describe_leaders(curves) == ""

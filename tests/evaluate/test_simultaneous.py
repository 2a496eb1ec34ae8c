"""Simultaneous comparisons: against scipy's Tukey and Dunnett, on few prompts, on repeated ones, and between seeds."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from alignzoo.evaluate.seed_spread import SeedSpread
from alignzoo.evaluate.simultaneous import compare_settings, compare_two, count_needed


def draw(settings: int, prompts: int, seeds: int = 1, seed: int = 5) -> list[np.ndarray]:
    """Return normal values that share the prompts' hardness, (seeds, prompts) for each setting."""
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 2, prompts)
    return list(hardness + rng.normal(0, 1, (settings, seeds, prompts)))


@pytest.mark.parametrize("settings", [2, 3, 6, 12])
def test_the_critical_value_of_all_pairs_is_tukeys(settings: int) -> None:
    """With many prompts, and settings of equal spread: the studentised range over the root of two."""
    found = compare_settings(draw(settings, 1000))
    assert found.critical == pytest.approx(scipy.stats.studentized_range.ppf(0.95, settings, np.inf) / 2**0.5, rel=0.03)
    ninety = scipy.stats.studentized_range.ppf(0.90, settings, np.inf) / 2**0.5
    assert found.critical_equal == pytest.approx(ninety, rel=0.03)


def test_the_critical_value_against_a_baseline_is_dunnetts() -> None:
    """Five settings against one, all of equal spread: 2.51 with many degrees of freedom (Dunnett, 1964)."""
    found = compare_settings(draw(6, 1000), against=0)
    assert found.critical == pytest.approx(2.51, rel=0.03)
    assert {tuple(pair) for pair in found.pairs} == {(place, 0) for place in range(1, 6)}
    with pytest.raises(KeyError):
        found.subtract(1, 2)


def test_two_settings_are_a_paired_t_test() -> None:
    first, second = draw(2, 40)
    found = compare_settings([first, second]).subtract(0, 1)
    ends = scipy.stats.ttest_rel(first[0], second[0]).confidence_interval()
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.high - found.low == pytest.approx(ends.high - ends.low, rel=0.1)


def test_the_other_way_round_is_the_same() -> None:
    found = compare_settings(draw(3, 50))
    one, other = found.subtract(0, 2), found.subtract(2, 0)
    assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))


@pytest.mark.parametrize(("prompts", "told"), [(1, False), (2, False), (5, False), (6, True), (40, True)])
def test_few_equal_differences_are_not_a_difference(prompts: int, told: bool) -> None:
    """All prompts differ by 0.2: their bootstrap has no width; the sign-flip test has p = 2 ** (1 - prompts)."""
    found = compare_two(np.full(prompts, 0.7), np.full(prompts, 0.5)).subtract(0, 1)
    assert found.value == pytest.approx(0.2)
    assert found.is_zero is not told
    assert found.high - found.low > 0


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_what_squares_hold_are_not_a_difference() -> None:
    found = compare_two(np.full(40, 1e200) * np.arange(40), np.zeros(40)).subtract(0, 1)
    assert found.is_zero


def test_how_many_prompts_must_differ() -> None:
    assert [count_needed(comparisons) for comparisons in (1, 5, 15, 435)] == [6, 8, 10, 15]
    for comparisons in (1, 5, 15, 435):
        least = scipy.stats.binomtest(0, count_needed(comparisons)).pvalue
        assert least <= 0.05 / comparisons < 2 * least


def test_equal_settings_of_a_share_may_differ_by_what_three_prompts_would_show() -> None:
    """Of 40 prompts on which none differed: the rule of three has 3 / 40."""
    same = np.tile([1.0, 0.0], 20)
    found = compare_settings([same[None], same[None]], unit=1.0)
    assert found.is_equal(0, 1)
    assert found.subtract(0, 1).high == pytest.approx(3 / 40, abs=0.02)
    assert compare_two(same, same).subtract(0, 1).high == 0.0, "without a bound there is nothing to smooth with"


def test_a_prompt_that_occurs_again_tells_nothing_new() -> None:
    values = draw(3, 60)
    again = [np.repeat(one, 5, axis=1) for one in values]
    names = np.repeat(np.arange(60), 5).tolist()
    once, clustered, counted = compare_settings(values), compare_settings(again, names), compare_settings(again)
    assert clustered.errors == pytest.approx(once.errors)
    assert clustered.prompts == 60
    assert counted.errors == pytest.approx(once.errors / 5**0.5, rel=0.05), "each row by itself: far too narrow"


def test_seeds_that_vary_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    quiet = draw(2, 100, seeds=4)
    loud = [one + rng.normal(0, 1, (4, 1)) for one in quiet]
    narrow, wide = compare_settings(quiet), compare_settings(loud)
    spread = np.mean([one.mean(1).var(ddof=1) / 4 for one in loud]) * 2
    assert wide.errors[0] ** 2 == pytest.approx(spread, rel=0.25)
    assert wide.errors[0] > 2 * narrow.errors[0]
    assert wide.critical > 2.2, "six degrees of freedom: Student's t has 2.45"


def test_what_seeds_do_on_single_prompts_counts_once() -> None:
    """Independent rests alone: the mean over seeds, prompt by prompt, has all of it."""
    rng = np.random.default_rng(8)
    values = list(rng.normal(0, 1, (8, 6, 400)))
    found = compare_settings(values)
    assert np.median(found.errors) == pytest.approx((2 / (6 * 400)) ** 0.5, rel=0.1)


def test_one_setting_whose_seeds_vary_more_is_judged_by_its_own() -> None:
    rng = np.random.default_rng(4)
    spreads = (0.1, 0.1, 0.1, 3.0)
    values = [one + spread * rng.normal(0, 1, (5, 1)) for one, spread in zip(draw(4, 100, 5), spreads, strict=True)]
    found = SeedSpread.estimate(values)
    assert len(set(found.group.tolist())) == 4
    errors = found.square_errors(np.array([[0, 1], [0, 3]]))
    assert errors[1] > 10 * errors[0]
    alike = SeedSpread.estimate(draw(4, 100, 5))
    assert set(alike.group.tolist()) == {0}
    assert alike.freedom.tolist() == [16]


def test_without_a_second_seed_seeds_have_no_spread() -> None:
    found = SeedSpread.estimate(draw(3, 20))
    assert found.typical_freedom == 0
    assert found.square_errors(np.array([[0, 1]])) == 0


def test_equal_within_a_distance_is_two_one_sided_tests() -> None:
    first, second = draw(2, 100)
    found = compare_settings([first, second])
    ends = scipy.stats.ttest_rel(first[0], second[0]).confidence_interval(0.9)
    far = max(abs(ends.low), abs(ends.high))
    assert found.is_within(0, 1, 1.1 * far)
    assert not found.is_within(0, 1, 0.9 * far)
    few = compare_settings([first[:, :5], first[:, :5] + 1e-3])
    assert not few.is_within(0, 1, 100.0), "five prompts carry no claim"


def test_the_smallest_difference_is_told_in_four_of_five() -> None:
    """By the noncentral t: of a paired t test on 40 prompts."""
    found = compare_settings(draw(2, 40))
    assert found.smallest is not None
    shift = found.smallest / found.errors[0]
    assert 1 - scipy.stats.nct.cdf(scipy.stats.t.ppf(0.975, 39), 39, shift) == pytest.approx(0.8, abs=0.04)
    assert compare_settings(draw(2, 5)).smallest is None
    same = draw(1, 40)
    assert compare_settings([*same, *same]).smallest is None

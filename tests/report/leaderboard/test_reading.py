"""What is said of a run's curves: each thing where it happens, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from alignzoo.report.leaderboard.reading import (
    Reading,
    chosen_falls,
    completions_changed_length,
    find_readings,
    groups_alike,
    grpo_loss_near_zero,
    margins_without_accuracy,
    read_curve,
    trend,
)


def history(**metrics: list[Any]) -> list[dict[str, Any]]:
    names = {name: name.replace("__", "/") for name in metrics}
    count = len(next(iter(metrics.values())))
    return [{"step": n + 1, **{names[name]: values[n] for name, values in metrics.items()}} for n in range(count)]


def changed(value: float, low: float, high: float) -> dict[str, Any]:
    return {"after": {"chosen_change": value}, "intervals": {"chosen_change": [low, high]}}


def test_falling_chosen_answers() -> None:
    found = chosen_falls(history(rewards__chosen=[0.0, -0.1, -0.3]), changed(-0.2, -0.3, -0.1))
    assert found is not None
    assert found.question == "The chosen log-probability falls: is that normal?"
    assert found.seen == "-0.200 nats/token on the held-out chosen completions"
    assert (found.label, found.points) == ("rewards/chosen", ((1, 0.0), (2, -0.1), (3, -0.3)))


def test_falling_chosen_answers_without_their_curve() -> None:
    found = chosen_falls(history(loss=[0.7, 0.6]), changed(-0.2, -0.3, -0.1))
    assert found is not None
    assert (found.points, found.logged) == (((0, 0.0), (1, -0.2)), False)
    other = chosen_falls(history(logps__chosen=[-20.0, -22.0]), changed(-0.2, -0.3, -0.1))
    assert other is not None
    assert other.label == "logps/chosen"


@pytest.mark.parametrize("result", [changed(0.2, 0.1, 0.3), changed(-0.2, -0.5, 0.1), {"after": {}}, {}])
def test_chosen_answers_that_do_not_surely_fall(result: dict[str, Any]) -> None:
    assert chosen_falls(history(rewards__chosen=[0.0, -0.1]), result) is None


def test_grpo_loss_near_zero() -> None:
    found = grpo_loss_near_zero(
        history(loss=[0.01, -0.02, 0.03], reward=[0.25, 0.5, 0.75], reward_std=[0.1, 0.1, 0.1]), {}
    )
    assert found is not None
    assert found.seen == "mean size of the loss 0.020; reward 0.25 at first, 0.75 at the end"
    assert [value for _, value in found.points] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    "lines",
    [
        history(loss=[0.5, -0.5], reward=[0.1, 0.2], reward_std=[0.1, 0.1]),  # not near zero
        history(loss=[0.01, 0.01], rewards__margins=[0.1, 0.2]),  # no GRPO
        history(loss=[0.01, 0.01], reward=[0.1, 0.2]),
        [],
    ],
)
def test_losses_that_need_no_word(lines: list[dict[str, Any]]) -> None:
    assert grpo_loss_near_zero(lines, {}) is None


def test_groups_without_a_difference() -> None:
    found = groups_alike(history(frac_reward_zero_std=[0.5, 1.0]), {})
    assert found is not None
    assert found.seen == "75% of the groups"
    assert groups_alike(history(frac_reward_zero_std=[0.25, 0.5]), {}) is None
    assert groups_alike(history(loss=[1.0]), {}) is None


RISING = [0.0, 0.1, 0.0, 1.0, 1.1, 1.0, 2.0, 2.1, 2.0]
FLAT = [0.7, 0.8, 0.75, 0.7, 0.8, 0.75, 0.7, 0.8, 0.75]


def test_margins_that_rise_alone() -> None:
    found = margins_without_accuracy(history(rewards__margins=RISING, rewards__accuracies=FLAT), {})
    assert found is not None
    assert found.seen == "margin 0.03 to 2.03, accuracy 75% to 75%"


@pytest.mark.parametrize(
    ("margins", "accuracies"),
    [
        (RISING, [value / 2 for value in RISING]),  # the accuracy rises too
        (RISING[::-1], FLAT),
        ([0.0, 5.0, -5.0, 0.0, 1.0, 0.0, 0.5, 5.0, -5.0], FLAT),  # a rise that may be noise
        (RISING[:5], FLAT[:5]),  # too short to have a trend
    ],
)
def test_margins_that_need_no_word(margins: list[float], accuracies: list[float]) -> None:
    assert margins_without_accuracy(history(rewards__margins=margins, rewards__accuracies=accuracies), {}) is None


def lengths(before: float, after: float) -> dict[str, Any]:
    return {"before": {"answer_tokens": before}, "after": {"answer_tokens": after}}


@pytest.mark.parametrize(
    ("after", "word"), [(50.0, "shorter"), (10.0, "shorter"), (150.0, "longer"), (400.0, "longer")]
)
def test_completions_of_another_length(after: float, word: str) -> None:
    found = completions_changed_length([], lengths(100.0, after))
    assert found is not None
    assert found.question == f"Completions got {word} by half or more: is that wanted?"
    assert found.seen == f"100 to {after:.0f} tokens"
    assert (found.points, found.logged) == (((0, 100.0), (1, after)), False)


def test_the_length_has_a_curve_where_answers_are_sampled() -> None:
    lines = history(**{"completions__mean_length": [96.0, 20.0]})
    found = completions_changed_length(lines, lengths(100.0, 20.0))
    assert found is not None
    assert (found.label, found.points) == ("completions/mean_length", ((1, 96.0), (2, 20.0)))


@pytest.mark.parametrize("result", [lengths(100.0, 51.0), lengths(100.0, 149.0), lengths(0.0, 5.0), {}])
def test_answers_of_about_the_same_length(result: dict[str, Any]) -> None:
    assert completions_changed_length([], result) is None


def test_a_run_where_nothing_happened_has_nothing_said() -> None:
    good = history(loss=[0.7, 0.6], rewards__margins=[0.0, 0.5], rewards__accuracies=[0.5, 0.9])
    assert find_readings(good, {**lengths(100.0, 90.0), "intervals": {}}) == []
    assert find_readings([], {}) == []


def test_all_that_happened_is_said() -> None:
    lines = history(loss=[0.0] * 6, reward=[0.5] * 6, reward_std=[0.1] * 6, frac_reward_zero_std=[0.9] * 6)
    found = find_readings(lines, {**lengths(100.0, 20.0), "intervals": {}})
    assert all(isinstance(reading, Reading) for reading in found)
    assert len({reading.question for reading in found}) == 3


def test_curves_have_only_numbers() -> None:
    lines = [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": None},
        {"step": 3, "loss": "0.5"},
        {"loss": 0.5},
        {"step": 4, "loss": float("nan")},
        {"step": 5, "loss": True},
    ]
    assert read_curve(lines, "loss") == ((1, 0.5),)


def test_a_trend_is_of_thirds() -> None:
    assert trend(tuple(enumerate([1.0, 1.0, 5.0, 9.0, 3.0, 3.0]))) == (1.0, 3.0, True)
    assert trend(((0, 2.0),)) == (2.0, 2.0, False)

"""A small version of ``nox -s simulation``, with bounds that uncorrected or too narrow intervals miss by far."""

from __future__ import annotations

import pytest
from made_up_studies import Truth, draw_study, separate
from simulate_boards import announce, any_marked, mean, read_boards

STUDIES = 200  #: five in a hundred come with a standard error of 1.5
ALIKE = Truth([0.0] * 6, 60)


def test_the_truth_is_what_is_drawn() -> None:
    import numpy as np

    truth = separate(0.2, Truth([0.0] * 3, 20_000, 2, seed_spreads=[0.0] * 3))
    assert truth.values[0] - truth.values[1] == pytest.approx(0.2)
    drawn = draw_study(truth, np.random.default_rng(1))
    assert drawn.shape == (3, 2, 20_000)
    assert drawn.mean((1, 2)) == pytest.approx(truth.values, abs=0.01)


@pytest.mark.parametrize(
    "truth", [ALIKE, Truth([0.0] * 15, 60), Truth([0.0] * 4, 60, 3), Truth([0.0] * 6, 60, share=False)]
)
def test_equal_settings_are_seldom_told_apart(truth: Truth) -> None:
    """Uncorrected, 32 to 75 boards of a hundred mark one."""
    boards = read_boards(truth, STUDIES, 1)
    assert any_marked(boards) <= 10
    assert mean(boards, "winner") <= 5
    assert 90 <= mean(boards, "covered") <= 99.5


def test_the_announced_difference_is_told_in_four_of_five() -> None:
    size = announce(ALIKE, 2)
    boards = read_boards(separate(size, ALIKE), STUDIES, 4)
    assert 70 <= mean(boards, "seen") <= 90
    assert 90 <= mean(boards, "covered") <= 99.5


def test_a_baseline_is_told_from_equals_seldom_and_sees_more_than_all_pairs() -> None:
    boards = read_boards(ALIKE, STUDIES, 5, against=True)
    assert any_marked(boards) <= 10
    assert announce(ALIKE, 2, against=True) < announce(ALIKE, 2)


def test_settings_that_differ_by_the_distance_are_seldom_called_equal() -> None:
    truth = Truth([0.0] * 4, 1000)
    assert mean(read_boards(separate(0.05, truth), STUDIES // 2, 6, against=True, within=5.0), "equal") <= 6
    assert mean(read_boards(truth, STUDIES // 2, 6, against=True, within=8.0), "equal") >= 80


def test_the_best_is_too_good_where_it_was_chosen_and_right_elsewhere() -> None:
    boards = read_boards(ALIKE, STUDIES, 7)
    assert mean(boards, "bias") > 4
    assert abs(mean(boards, "bias_elsewhere")) < 1.5


def test_a_repeated_prompt_counts_once() -> None:
    assert any_marked(read_boards(Truth([0.0] * 3, 240, repeated=4), STUDIES, 8)) <= 10

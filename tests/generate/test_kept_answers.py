"""Which answers become rows: pairs, best ones, good ones; and what is counted as left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from alignzoo import UserError
from alignzoo.evaluate.completions import Completion
from alignzoo.generate.selection import Scored, check_rows, check_spread, select

KEYS: Mapping[str, Any] = {"keep": "best_worst", "margin": 0.0, "least": None, "allow_cut_off": False}


def scored(text: str, score: float, ended: bool = True) -> Scored:
    return Scored(Completion(text, len(text.split()), ended), score)


FOUR = [scored("fair", 0.5), scored("worst", 0.1), scored("best", 0.9), scored("bad", 0.2)]


def chosen(answers: list[Scored], **keys: Any) -> list[tuple[str, str | None]]:
    """Return the texts of the rows made of one prompt's answers."""
    rows = select([answers], {**KEYS, **keys}).rows
    return [(row.chosen.text, row.rejected.text if row.rejected else None) for row in rows]


def left_out(answers: list[Scored], **keys: Any) -> dict[str, int]:
    return dict(select([answers], {**KEYS, **keys}).left_out)


def test_the_best_is_paired_with_the_worst() -> None:
    assert chosen(FOUR) == [("best", "worst")]
    assert chosen(FOUR[::-1]) == [("best", "worst")]


def test_every_two_answers_are_paired_above_the_margin_the_better_one_first() -> None:
    assert chosen(FOUR, keep="all_pairs", margin=0.35) == [
        ("fair", "worst"),
        ("best", "fair"),
        ("best", "worst"),
        ("best", "bad"),
    ]
    assert len(chosen(FOUR, keep="all_pairs")) == 6


def test_a_difference_equal_to_the_margin_is_a_tie() -> None:
    two = [scored("a", 1.0), scored("b", 0.5)]
    assert (chosen(two, margin=0.5), left_out(two, margin=0.5)) == ([], {"ties": 1, "unfit": 0})
    assert chosen(two, margin=0.49) == [("a", "b")]


def test_equal_scores_and_equal_texts_are_ties() -> None:
    assert left_out([scored("a", 1.0), scored("b", 1.0)]) == {"ties": 1, "unfit": 0}
    assert left_out([scored(" same ", 1.0), scored("same", 0.0, ended=False)]) == {"ties": 1, "unfit": 0}


def test_an_answer_that_was_cut_off_is_rejected_and_not_chosen() -> None:
    cut = [scored("cut", 0.9, ended=False), scored("whole", 0.5), scored("worst", 0.1)]
    assert chosen(cut) == [("whole", "worst")]
    assert chosen(cut, allow_cut_off=True) == [("cut", "worst")]
    assert chosen([scored("cut", 0.1, ended=False), scored("whole", 0.5)]) == [("whole", "cut")]
    assert left_out([scored("cut", 0.9, ended=False)] * 2) == {"ties": 0, "unfit": 1}


def test_an_empty_answer_is_in_no_row() -> None:
    assert chosen([scored(" ", 0.9), scored("a", 0.5), scored("b", 0.1), scored("", 0.0)]) == [("a", "b")]
    assert left_out([scored("", 0.9), scored("\n", 0.1)]) == {"ties": 0, "unfit": 1}


def test_what_is_chosen_reaches_the_least_score() -> None:
    assert chosen(FOUR, least=0.9) == [("best", "worst")]
    assert left_out(FOUR, least=0.91) == {"ties": 0, "unfit": 1}


def test_single_answers() -> None:
    assert chosen(FOUR, keep="best") == [("best", None)]
    assert chosen([*FOUR, scored("fair", 0.5)], keep="all_good", least=0.5) == [("fair", None), ("best", None)]


def test_rows_know_their_prompt() -> None:
    found = select([FOUR, [scored("a", 1.0)] * 2, FOUR], KEYS)
    assert [row.place for row in found.rows] == [0, 2]
    assert found.left_out == {"ties": 1, "unfit": 0}


def test_scores_without_any_spread_are_refused() -> None:
    flat = [[scored("a", 1.0), scored("b", 1.0)], [scored("c", 0.0), scored("d", 0.0)]]
    with pytest.raises(
        UserError, match=r"^reward=x gives all 2 answers to a prompt the same score, for each of 2 prompts: "
    ):
        check_spread(flat, "best_worst", "reward=x")
    check_spread([*flat, FOUR], "best_worst", "reward=x")
    check_spread(flat, "all_good", "reward=x")
    check_spread([[scored("a", 1.0)]], "best", "reward=x")


@pytest.mark.parametrize(
    ("answers", "keys", "told"),
    [
        ([scored("a", 1.0, ended=False), scored("b", 0.0, ended=False)], {}, "none of 2 answers ended within 8 tokens"),
        (FOUR, {"margin": 2.0}, r"no pair is left of 4 answers \(4 ended, best score 0.9; generate.margin=2.0\)"),
        (
            FOUR,
            {"least": 2.0, "keep": "best"},
            r"no answer is left of 4 answers \(4 ended, best score 0.9; generate.least=2.0\)",
        ),
    ],
)
def test_no_row_at_all_is_refused_with_the_reason(answers: list[Scored], keys: dict[str, Any], told: str) -> None:
    found = select([answers], {**KEYS, **keys})
    with pytest.raises(UserError, match=told):
        check_rows(found, [answers], {**KEYS, **keys}, 8)

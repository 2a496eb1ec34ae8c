"""The yardstick's numbers, each against a value worked out by hand, and differences between runs."""

from __future__ import annotations

from typing import Any

import pytest

from alignzoo.config.judged import choose_win_rate
from alignzoo.config.metrics import NUMBERS, choose_objective
from alignzoo.evaluate.intervals import wilson
from alignzoo.evaluate.metrics import VALUES, collect_values, estimate, estimate_all, summarise


def seen(text: str = "one.", chosen: float | None = None, rejected: float | None = None, **more: Any) -> dict[str, Any]:
    """What a model says of a row. The answer's tokens are its characters; one that ends in a full stop ended itself."""
    found = {"text": text, "tokens": len(text), "ended": text.endswith("."), "chosen": chosen, "rejected": rejected}
    return {**found, "kl": 0.0, "kl_tokens": 1, "reward": None, "win": None, **more}


#: Log-probabilities of chosen and rejected answers, before and after, and the answers' tokens. Gains of chosen: +1, -2,
#: +0.5, +1; of rejected: +3, -2.5, +0.5, -2; so margins of -2, +0.5, 0 (a tie) and +3.
BEFORE = [(-4.0, -8.0), (-9.0, -4.0), (-3.0, -3.5), (-5.0, -7.0)]
AFTER = [(-3.0, -5.0), (-11.0, -6.5), (-2.5, -3.0), (-4.0, -9.0)]
TOKENS = [(2, 4), (4, 2), (2, 2), (3, 4)]


def pairs(after: list[tuple[float, float]] = AFTER) -> list[dict[str, Any]]:
    rows = zip(BEFORE, after, TOKENS, strict=True)
    return [
        {
            **{"id": str(n), "prompt": f"Question {n}", "chosen_tokens": c, "rejected_tokens": r},
            **{"before": seen("one.", *first), "after": seen("one.", *second)},
        }
        for n, (first, second, (c, r)) in enumerate(rows)
    ]


def answers(*texts: str, **more: list[Any]) -> list[dict[str, Any]]:
    rows = [{name: values[n] for name, values in more.items()} for n in range(len(texts))]
    return [
        {
            **{"id": str(n), "prompt": "?", "chosen_tokens": None, "rejected_tokens": None},
            **{"before": seen("start."), "after": seen(text, **row)},
        }
        for n, (text, row) in enumerate(zip(texts, rows, strict=True))
    ]


def value(key: str, lines: list[dict[str, Any]], side: str = "after") -> float:
    found = estimate(key, lines, side)
    assert found is not None
    return found.value


def test_numbers_of_pairs() -> None:
    assert value("preference_accuracy", pairs()) == (0 + 1 + 0.5 + 1) / 4
    assert value("margin", pairs()) == (-2 + 0.5 + 0 + 3) / 4
    assert value("chosen_change", pairs()) == pytest.approx((1 - 2 + 0.5 + 1) / (2 + 4 + 2 + 3))
    by_token = (1 / 2 - 3 / 4) + (-2 / 4 + 2.5 / 2) + (0.5 / 2 - 0.5 / 2) + (1 / 3 + 2 / 4)
    assert value("margin_token", pairs()) == pytest.approx(by_token / 4)


def test_accuracies_of_the_model_itself() -> None:
    """Of the four pairs one is turned round, another one for sums than for means over tokens."""
    assert value("accuracy_sum", pairs()) == 3 / 4
    assert value("accuracy_mean", pairs()) == 3 / 4
    assert value("accuracy_sum", pairs(), "before") == 3 / 4
    equal = pairs([(-2.0, -2.0), (-2.0, -1.0), (-2.0, -2.0), (-3.0, -4.0)])
    assert value("accuracy_sum", equal) == (0.5 + 0 + 0.5 + 1) / 4
    assert value("accuracy_mean", equal) == (0 + 0.5 + 0.5 + 0.5) / 4  # -1 < -0.5, -0.5 = -0.5, -1 = -1, -1 = -1


def test_the_start_model_against_itself() -> None:
    for key, expected in (
        ("preference_accuracy", 0.5),
        ("margin", 0),
        ("margin_token", 0),
        ("chosen_change", 0),
        ("kl", 0),
    ):
        assert value(key, pairs(), "before") == expected


def test_numbers_of_answers() -> None:
    """3-grams: (a b c) (b c a) (c a b) (a b c), of which three differ; then none, none, and one."""
    lines = answers("a b c a b c", "", "two words.", "one two three.")
    assert value("answer_tokens", lines) == (11 + 0 + 10 + 14) / 4
    assert value("answer_words", lines) == (6 + 0 + 2 + 3) / 4
    assert value("answer_words_median", lines) == 2.5
    assert value("ended", lines) == 2 / 4
    assert value("empty", lines) == 1 / 4
    assert value("distinct_3", lines) == (3 + 0 + 0 + 1) / (4 + 0 + 0 + 1)


@pytest.mark.parametrize(
    ("text", "formatted"),
    [
        ("- a\n- b", True),
        ("Two:\n 1. a\n 2) b", True),
        ("# Title", True),
        ("It is **bold**.", True),
        ("Type `ls`.", True),
        ("It is 3.5 - 2 * 4 #1.", False),
        ("1990 was a year.", False),
        ("", False),
    ],
)
def test_formatting(text: str, formatted: bool) -> None:
    assert value("formatted", answers(text)) == formatted


def test_refusals() -> None:
    lines = answers("I'm sorry, but no.", "I cannot do that.", "As an AI, I think so.", "Sorry is a word.")
    assert value("refusals", lines) == 3 / 4


def test_numbers_that_are_measured_where_asked_for() -> None:
    lines = answers("a", "b", kl=[0.6, 1.0], kl_tokens=[2, 6], reward=[1.0, 0.5], win=[1.0, 0.5])
    assert value("kl", lines) == (0.6 + 1.0) / (2 + 6)
    assert value("reward", lines) == value("win_rate", lines) == 0.75
    taught = answers("a", "b", teacher_kl=[0.6, 1.0], teacher_kl_tokens=[2, 6])
    assert value("teacher_kl", taught) == (0.6 + 1.0) / (2 + 6)
    assert {"reward", "win_rate", "teacher_kl"}.isdisjoint(estimate_all(answers("a", "b")))


def test_the_same_3_gram_in_two_answers_is_no_repetition() -> None:
    assert value("distinct_3", answers("a b c", "a b c", "a b c", "a b c")) == 1


def test_answers_without_a_3_gram_repeat_nothing() -> None:
    lines = answers("", " \n", "one", "one two")
    assert value("distinct_3", lines) == 1
    assert value("empty", lines) == 0.5


def test_every_number_is_described_and_every_description_has_a_number() -> None:
    assert VALUES.keys() == NUMBERS.keys()
    more = {"reward": [0.5] * 4, "win": [1.0] * 4, "win_second": [1.0] * 4}
    more |= {"teacher_kl": [0.5] * 4, "teacher_kl_tokens": [2] * 4, "success": [1] * 4, "turns": [2] * 4}
    lines = [
        {**line, **{side: line[side] | {k: v[0] for k, v in more.items()} for side in ("before", "after")}}
        for line in pairs()
    ]
    scores = [
        {
            "id": "0",
            "prompt": "?",
            **{side: {"chosen_score": 1.0, "rejected_score": 0.0} for side in ("before", "after")},
        }
    ]
    found = estimate_all(lines) | estimate_all(scores)
    assert found.keys() == NUMBERS.keys()
    assert estimate_all(lines).keys().isdisjoint(estimate_all(scores))
    for key, number in NUMBERS.items():
        assert number.form.format(found[key].value)
        assert number.label
        assert number.meaning
        assert number.better in ("high", "low", "")
        assert number.kind in ("mean", "share", "median")
        assert found[key].low <= found[key].value <= found[key].high


def test_numbers_of_a_reward_model() -> None:
    """Margins of 2, -0.5, 0 (a tie) and 1."""
    pairs = [(1.0, -1.0), (0.0, 0.5), (3.0, 3.0), (-1.0, -2.0)]
    lines = [
        {"id": str(n), "prompt": "?", side: {"chosen_score": c, "rejected_score": r}}
        for n, (c, r) in enumerate(pairs)
        for side in ("after",)
    ]
    assert value("reward_accuracy", lines) == (1 + 0 + 0.5 + 1) / 4
    assert value("reward_margin", lines) == (2 - 0.5 + 0 + 1) / 4
    found = estimate("reward_accuracy", lines)
    assert found is not None
    assert (found.low, found.high) == wilson(2.5, 4)


def test_shares_have_wilsons_interval() -> None:
    found = estimate("ended", answers("a.", "b.", "c.", "d"))
    assert found is not None
    assert (found.low, found.high) == wilson(3, 4)


def test_without_lines_there_are_no_numbers() -> None:
    assert estimate_all([]) == {}
    assert summarise([]) == {"before": {}, "after": {}, "intervals": {}}


@pytest.mark.parametrize("key", NUMBERS)
def test_what_each_line_says_has_the_number_as_its_mean(key: str) -> None:
    more = [
        {"reward": 0.5 * n, "win": n % 2, "win_second": n // 2, "teacher_kl": 0.1 * n, "teacher_kl_tokens": 2}
        | {"success": n % 2, "turns": n}
        for n in range(len(pairs()))
    ]
    lines = [{**line, "after": line["after"] | some} for line, some in zip(pairs(), more, strict=True)]
    scored = [{**line, "after": {"chosen_score": n, "rejected_score": 1.5}} for n, line in enumerate(pairs())]
    found = collect_values(key, scored if key.startswith("reward_") else lines)
    assert found is not None
    assert found.shape == (4,)
    assert found.mean() == pytest.approx(value(key, scored if key.startswith("reward_") else lines))


def test_what_was_not_measured_has_no_values() -> None:
    assert collect_values("reward", answers("a")) is None
    assert collect_values("margin", []) is None
    assert collect_values("margin", answers("a", "b")) is None


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("preference_accuracy", 0.6251, "63%"),
        ("margin", 1.234, "+1.23"),
        ("margin", -1.0, "-1.00"),
        ("chosen_change", -0.01234, "-0.012"),
        ("answer_tokens", 12.34, "12.3"),
        ("answer_words", 3.25, "3.2"),
        ("answer_words_median", 7.0, "7"),
        ("ended", 1.0, "100%"),
        ("empty", 0.0, "0%"),
        ("distinct_3", 0.987, "99%"),
    ],
)
def test_how_numbers_are_written(key: str, value: float, text: str) -> None:
    from alignzoo.config.metrics import NUMBERS

    assert NUMBERS[key].form.format(value) == text


@pytest.mark.parametrize(
    ("asked", "reward", "judge", "chosen"),
    [
        ("auto", True, "pairwise_lm", "reward"),
        ("auto", True, "none", "reward"),
        ("auto", False, "pairwise_lm", "win_rate_lc"),
        ("auto", False, "reward_model", "win_rate_lc"),
        ("auto", False, "rule", "win_rate"),  # it judges length: nothing of it is left at equal length
        ("auto", False, "none", "margin_token"),
        ("kl", True, "pairwise_lm", "kl"),
    ],
)
def test_a_run_aims_at_what_has_headroom(asked: str, reward: bool, judge: str, chosen: str) -> None:
    assert choose_objective(asked, reward, choose_win_rate(judge)) == chosen

"""Axes: which number a text gets, and what a comparison makes of many."""

from __future__ import annotations

import pytest

from alignzoo.evaluate import style
from alignzoo.evaluate.comparison import diff_words
from alignzoo.evaluate.metrics import estimate


@pytest.mark.parametrize(("text", "count"), [("", 0), ("one", 1), (" one\n two\tthree ", 3)])
def test_words(text: str, count: int) -> None:
    assert style.count_words(text) == count
    assert style.count_hundreds_of_words(text) == count / 100


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("It rains.", 1),
        ('He said "go!"', 1),
        ("Really? (Yes.)", 1),
        ("**It rains.**\n", 1),
        ("\u96e8\u3002", 1),
        ("It rains", 0),
        ("It rains, and", 0),
        ("1. a\n2.", 1),
        ("", 0),
        (")", 0),
    ],
)
def test_a_whole_sentence(text: str, share: float) -> None:
    assert style.ends_in_sentence(text) == share


@pytest.mark.parametrize(
    ("text", "share"),
    [("I'm sorry, but no.", 1), ("As an AI, I", 1), ("I can't say.", 1), ("He is sorry.", 0), ("", 0)],
)
def test_refusal(text: str, share: float) -> None:
    assert style.is_refusal(text) == share


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("It depends on the day.", 1),
        ("It may, or might, rain. Generally it does.", 3),
        ("It's important to note that MAYBE.", 2),
        ("It tends to rain in most cases", 2),
        ("Mayor Mighty is dismayed.", 0),
        ("It rains.", 0),
        ("", 0),
    ],
)
def test_hedges(text: str, count: int) -> None:
    assert style.count_hedges(text) == count


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("plain - text, 3. part * of # it", ""),
        ("- one", "list"),
        ("a:\n  * one", "list"),
        ("1) one\n2) two", "list"),
        ("10. ten", "list"),
        ("-5 degrees\n1.5 metres\n-", ""),
        ("# Title\ntext", "heading"),
        ("text\n### Title", "heading"),
        ("#tag", ""),
        ("a **bold** word", "bold"),
        ("__bold__", "bold"),
        ("2 ** 3 ** 4", ""),
        ("use `x`", "code"),
        ("a\n```python\nx\n```", "code"),
        ("it` s", ""),
        ("# A\n- **b** `c`", "list heading bold code"),
    ],
)
def test_formatting(text: str, marks: str) -> None:
    found = {"list": style.has_list, "heading": style.has_heading, "bold": style.has_bold, "code": style.has_code}
    assert [name for name, has in found.items() if has(text)] == marks.split()


@pytest.mark.parametrize(
    ("text", "distinct", "of"),
    [
        ("", 0, 0),
        ("a b", 0, 0),
        ("a b c", 1, 1),
        ("a b c a b c", 3, 4),
        ("a b c A B C", 4, 4),
        ("no no no no no", 1, 3),
        ("The cat sat. the Cat sat.", 4, 4),
    ],
)
def test_trigrams(text: str, distinct: int, of: int) -> None:
    assert style.count_trigrams(text) == (distinct, of)


@pytest.mark.parametrize(("text", "distinct"), [("The cat sat. the Cat sat.", 1), ("on and on and on", 2 / 3)])
def test_compare_calls_repeated_what_the_result_does_not_call_distinct(text: str, distinct: float) -> None:
    axis, found = style.AXES["repetition"], estimate("distinct_3", [{"after": {"text": text}}])
    assert axis.over is not None
    assert found is not None
    assert found.value == distinct == pytest.approx(1 - axis.count(text) / axis.over(text))


def test_every_axis_counts_an_empty_text() -> None:
    for axis in style.AXES.values():
        assert axis.count("" if axis.of == "text" else False) == 0
        assert axis.form.format(0.5)
        assert axis.is_share == (axis.form == "{:.0%}" and axis.over is None)


def test_the_pieces_of_a_difference_are_the_texts() -> None:
    a, b = "The sky is  blue\ntoday, they say.", "The sky was blue today."
    left, right, share = diff_words(a, b)
    assert ("".join(t for t, _ in left), "".join(t for t, _ in right)) == (a, b)
    assert [text for text, changed in left if changed] == ["is", "today, they say."]
    assert [text for text, changed in right if changed] == ["was", "today."]
    assert share == pytest.approx(1 - 2 * 3 / (7 + 5))


@pytest.mark.parametrize(
    ("a", "b", "share"), [("", "", 0), ("a b", "a b", 0), ("a\n b", "a b", 0), ("a", "", 1), ("a b", "c d", 1)]
)
def test_how_much_differs(a: str, b: str, share: float) -> None:
    assert diff_words(a, b)[2] == share

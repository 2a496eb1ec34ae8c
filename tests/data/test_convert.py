"""What a dataset holds becomes what a method trains on, or is refused with the reason; nothing is invented."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from alignzoo import DataFormat, UserError
from alignzoo.data.convert import MEANING, choose_kl_partners, convert, spread_labels, with_pairs

PREFERENCE, UNPAIRED, PROMPTS = DataFormat.PREFERENCE, DataFormat.UNPAIRED, DataFormat.PROMPTS
SUPERVISED, SCORED = DataFormat.SUPERVISED, DataFormat.SCORED

TRAINED = (PREFERENCE, UNPAIRED, SUPERVISED, PROMPTS)  #: what methods train on


def prepared(*rows: dict[str, Any]) -> Dataset:
    """Return rows as prepare() makes them; ``prompt`` is a number here, answers are token ids."""
    full = []
    for number, row in enumerate(rows):
        message = [{"role": "user", "content": f"Question {row['prompt']}"}]
        base = {"id": f"row-{number}", "prompt_key": row["prompt"], "prompt_ids": [row["prompt"], 0], "extra": "{}"}
        base["template_inputs"] = None
        texts = {name[:-4]: str(ids) for name, ids in row.items() if name.endswith("_ids")}
        full.append({**base, **texts, **row, "prompt": json.dumps(row.get("messages", message))})
        full[-1].pop("messages", None)
    return Dataset.from_list(full)


HELD = {
    PREFERENCE: prepared(
        {"prompt": 1, "chosen_ids": [10, 99], "rejected_ids": [11, 12, 99]},
        {"prompt": 2, "chosen_ids": [20, 99], "rejected_ids": [21, 99]},
    ),
    UNPAIRED: prepared(
        {"prompt": 1, "completion_ids": [10, 99], "label": True},
        {"prompt": 1, "completion_ids": [11, 99], "label": False},
        {"prompt": 2, "completion_ids": [20, 99], "label": True},
        {"prompt": 3, "completion_ids": [30, 99], "label": False},
    ),
    SUPERVISED: prepared({"prompt": 1, "completion_ids": [10, 99]}, {"prompt": 2, "completion_ids": [20, 99]}),
    PROMPTS: prepared({"prompt": 1}, {"prompt": 2}, {"prompt": 1}),
    SCORED: prepared(
        {"prompt": 1, "completion_ids": [11, 99], "score": 2.0},
        {"prompt": 2, "completion_ids": [20, 99], "score": 1.0},
        {"prompt": 1, "completion_ids": [10, 99], "score": 5.0},
        {"prompt": 1, "completion_ids": [12, 99], "score": 1.0},
        {"prompt": 3, "completion_ids": [30, 99], "score": 4.0},
        {"prompt": 3, "completion_ids": [31, 99], "score": 4.0},
    ),
}

#: (what the dataset holds, what the method trains on) -> (prompt, answer ...) of each row, in any order.
POSSIBLE = {
    (PREFERENCE, PREFERENCE): [(1, [10, 99], [11, 12, 99]), (2, [20, 99], [21, 99])],
    (UNPAIRED, PREFERENCE): [(1, [10, 99], [11, 99])],
    (SCORED, PREFERENCE): [(1, [10, 99], [12, 99])],
    (PREFERENCE, UNPAIRED): [
        *((1, [10, 99], True), (1, [11, 12, 99], False), (2, [20, 99], True), (2, [21, 99], False)),
    ],
    (UNPAIRED, UNPAIRED): [(1, [10, 99], True), (1, [11, 99], False), (2, [20, 99], True), (3, [30, 99], False)],
    (PREFERENCE, SUPERVISED): [(1, [10, 99]), (2, [20, 99])],
    (UNPAIRED, SUPERVISED): [(1, [10, 99]), (2, [20, 99])],
    (SUPERVISED, SUPERVISED): [(1, [10, 99]), (2, [20, 99])],
    (SCORED, SUPERVISED): [(1, [10, 99]), (2, [20, 99]), (3, [30, 99])],
    **{(kind, PROMPTS): [(1,), (2,)] for kind in (PREFERENCE, SUPERVISED, PROMPTS)},
    **{(kind, PROMPTS): [(1,), (2,), (3,)] for kind in (UNPAIRED, SCORED)},
}

REFUSED = {
    (SUPERVISED, PREFERENCE): "the dataset holds supervised rows, the method needs preference rows: it has good "
    "answers only, and nothing they are better than: try method=sft.",
    (SUPERVISED, UNPAIRED): "the dataset holds supervised rows, the method needs unpaired rows: it has good answers "
    "only, and KTO needs bad ones too: try method=sft.",
    (PROMPTS, PREFERENCE): "the dataset holds prompts rows, the method needs preference rows: it has prompts only, and "
    "no answers: try method=grpo.",
    (PROMPTS, UNPAIRED): "it has prompts only, and no answers: try method=grpo.",
    (PROMPTS, SUPERVISED): "it has prompts only, and no answers: try method=grpo.",
    (SCORED, UNPAIRED): "the dataset holds scored rows, the method needs unpaired rows: a score is not a label: add a "
    "`label` column, or try a method that learns from pairs.",
}


def read(rows: Dataset) -> list[tuple[Any, ...]]:
    """Return (prompt, answer ...) of rows in any method's format."""
    if "prompt" in rows.column_names:
        return [(int(row["prompt"][-1]["content"].removeprefix("Question ")),) for row in rows]
    if "labels" in rows.column_names:
        ids = [(row["input_ids"], row["labels"].count(-100)) for row in rows]
        assert [row["labels"] for row in rows] == [[-100] * start + tokens[start:] for tokens, start in ids]
        return [(tokens[0], tokens[start:]) for tokens, start in ids]
    answers = [c for c in ("chosen_ids", "rejected_ids", "completion_ids", "label") if c in rows.column_names]
    return [(row["prompt_ids"][0], *(row[answer] for answer in answers)) for row in rows]


@pytest.mark.parametrize(("kind", "wanted"), POSSIBLE, ids=lambda kind: kind.value)
def test_possible_conversion(kind: DataFormat, wanted: DataFormat) -> None:
    converted = read(convert(HELD[kind], kind, wanted, batch=4, seed=0))
    assert sorted(map(str, converted)) == sorted(map(str, POSSIBLE[kind, wanted]))


@pytest.mark.parametrize(("kind", "wanted"), REFUSED, ids=lambda kind: kind.value)
def test_refused_conversion(kind: DataFormat, wanted: DataFormat) -> None:
    with pytest.raises(UserError) as raised:
        convert(HELD[kind], kind, wanted, batch=4, seed=0)
    assert REFUSED[kind, wanted] in str(raised.value)


def test_every_conversion_is_possible_or_refused() -> None:
    assert POSSIBLE.keys() | REFUSED.keys() == set(product(DataFormat, TRAINED))
    assert not POSSIBLE.keys() & REFUSED.keys()


def test_a_conversion_that_changes_what_the_data_mean_says_so() -> None:
    assert MEANING.keys() == {(kind, wanted) for kind, wanted in POSSIBLE if kind is not wanted}


COLUMNS = {
    PREFERENCE: {"id", "prompt_ids", "chosen_ids", "rejected_ids"},
    UNPAIRED: {"id", "prompt_ids", "completion_ids", "label", "KL_completion_ids"},
    SUPERVISED: {"id", "input_ids", "labels"},
    PROMPTS: {"id", "prompt"},
}


@pytest.mark.parametrize(("kind", "wanted"), POSSIBLE, ids=lambda kind: kind.value)
def test_columns(kind: DataFormat, wanted: DataFormat) -> None:
    """What DataFormat promises to plugins, and the row's id; nothing else reaches a trainer."""
    assert set(convert(HELD[kind], kind, wanted, batch=4, seed=0).column_names) == COLUMNS[wanted]


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        (UNPAIRED, [{"prompt": n, "completion_ids": [n], "label": n < 2} for n in range(4)], "a good and a bad answer"),
        (
            SCORED,
            [{"prompt": n // 2, "completion_ids": [n], "score": 1.0} for n in range(4)],
            "two answers with different scores",
        ),
    ],
)
def test_no_pairs_to_be_made(kind: DataFormat, rows: list[dict[str, Any]], message: str) -> None:
    """Refused for training; held-out rows stay as they are."""
    with pytest.raises(UserError, match=f"the dataset holds {kind} rows, and no prompt has {message}: nothing can be"):
        convert(prepared(*rows), kind, PREFERENCE, batch=4, seed=0)
    assert with_pairs(prepared(*rows), kind).to_list() == prepared(*rows).to_list()


@pytest.mark.parametrize("kind", [UNPAIRED, SCORED])
def test_held_out_pairs_have_the_further_columns_of_the_better_answer(kind: DataFormat) -> None:
    """Rewards read them, whatever a row was before it was paired."""
    mark: dict[str, Any] = {"label": True} if kind is UNPAIRED else {"score": 1.0}
    worse = {name: value - 1 for name, value in mark.items()} if kind is SCORED else {"label": False}
    rows = [
        {"prompt": 1, "completion_ids": [10, 99], "extra": '{"answer": "4"}', **mark},
        {"prompt": 1, "completion_ids": [11, 99], "extra": '{"answer": "5"}', **worse},
    ]
    (pair,) = with_pairs(prepared(*rows), kind).to_list()
    assert (pair["chosen_ids"], pair["rejected_ids"], pair["extra"]) == ([10, 99], [11, 99], '{"answer": "4"}')


def test_good_and_bad_answers_are_each_used_once() -> None:
    rows = [{"prompt": 1, "completion_ids": [n], "label": n % 2 == 0} for n in range(6)]
    pairs = read(convert(prepared(*rows, rows[0] | {"completion_ids": [6]}), UNPAIRED, PREFERENCE, batch=4, seed=0))
    used = [pair[1:] for pair in pairs]
    assert len(pairs) == 3
    assert len({str(answers[0]) for answers in used}) == len({str(answers[1]) for answers in used}) == 3
    assert all(chosen[0] % 2 == 0 and rejected[0] % 2 == 1 for chosen, rejected in used)


def test_an_answer_marked_both_ways_is_no_pair() -> None:
    rows = [{"prompt": 1, "completion_ids": [7, 99], "label": label} for label in (True, False)]
    rows += [{"prompt": 2, "completion_ids": [n], "label": n == 8} for n in (8, 9)]
    assert read(convert(prepared(*rows), UNPAIRED, PREFERENCE, batch=4, seed=0)) == [(2, [8], [9])]


def test_no_good_answer_to_train_on_is_refused() -> None:
    rows = [{"prompt": n, "completion_ids": [n], "label": False} for n in range(4)]
    with pytest.raises(UserError):
        convert(prepared(*rows), UNPAIRED, SUPERVISED, batch=4, seed=0)


def test_texts_without_prompts_give_none() -> None:
    empty = {"messages": [{"role": "text", "content": ""}]}
    rows = prepared({"prompt": 1, "completion_ids": [10]}, {"prompt": 2, "completion_ids": [20], **empty})
    with pytest.raises(UserError, match="the method needs prompts, and row row-1 of the dataset has none"):
        convert(rows, SUPERVISED, PROMPTS, 4, 0)


def test_prompts_come_once_with_their_columns() -> None:
    """Messages stay messages, text is text; the first row's further columns go with the prompt."""
    text = [{"role": "text", "content": "Once"}]
    rows = [
        {"prompt": 1, "extra": '{"answer": "4", "level": 3}'},
        {"prompt": 2, "extra": '{"answer": "5", "level": null}', "messages": text},
        {"prompt": 1, "extra": '{"answer": "6", "level": 1}'},
    ]
    asked = [{"role": "user", "content": "Question 1"}]
    first, second = (convert(prepared(row), PROMPTS, PROMPTS, batch=4, seed=0).to_list()[0] for row in rows[:2])
    assert first == {"id": "row-0", "prompt": asked, "answer": "4", "level": 3}
    assert second == {"id": "row-0", "prompt": "Once", "answer": "5", "level": None}
    assert [row["answer"] for row in convert(prepared(rows[0], rows[2]), PROMPTS, PROMPTS, batch=4, seed=0)] == ["4"]


def test_a_further_column_does_not_replace_the_prompt() -> None:
    rows = convert(prepared({"prompt": 1, "extra": '{"prompt": "Other"}'}), SUPERVISED, PROMPTS, batch=4, seed=0)
    assert rows[0]["prompt"] == [{"role": "user", "content": "Question 1"}]


def test_a_further_column_may_hold_numbers_and_text() -> None:
    rows = [{"prompt": n, "extra": json.dumps({"answer": answer})} for n, answer in enumerate([4, "x = 4"])]
    assert len(convert(prepared(*rows), PROMPTS, PROMPTS, batch=4, seed=0)) == 2


def test_seed_orders_single_answers_only() -> None:
    """Pairs keep the source's order, for the trainer to shuffle; answers taken apart are laid out by the seed."""
    rows = prepared(*({"prompt": n, "chosen_ids": [n, 1], "rejected_ids": [n, 2]} for n in range(50)))
    for wanted in (PREFERENCE, SUPERVISED):
        assert [convert(rows, PREFERENCE, wanted, 4, seed)["id"][:] for seed in (0, 1)] == [rows["id"][:]] * 2
    apart = [convert(rows, PREFERENCE, UNPAIRED, 4, seed)["id"][:] for seed in (0, 0, 1)]
    assert apart[0] == apart[1] != apart[2]
    assert Counter(apart[0]) == Counter(apart[2]) == {f"row-{n}": 2 for n in range(50)}


@given(labels=st.lists(st.booleans(), min_size=1, max_size=80), seed=st.integers(0, 5), data=st.data())
@settings(max_examples=60, deadline=None)
def test_mixed_spreads_both_labels(labels: list[bool], seed: int, data: st.DataObject) -> None:
    """Every stretch holds the labels in proportion, give or take less than two rows."""
    order = spread_labels(np.array(labels), seed)
    assert sorted(order) == list(range(len(labels)))
    start = data.draw(st.integers(0, len(labels) - 1))
    stretch = np.array(labels)[order][start : data.draw(st.integers(start + 1, len(labels)))]
    assert abs(stretch.sum() - len(stretch) * np.mean(labels)) < 2


@given(prompts=st.lists(st.integers(0, 4), min_size=1, max_size=30), batch=st.integers(2, 9))
@settings(max_examples=60, deadline=None)
def test_partners_are_others_of_the_same_block(prompts: list[int], batch: int) -> None:
    """The nearest earlier row of the block with another prompt; of equal prompts, the row before, in any block."""
    found = choose_kl_partners(np.array(prompts), batch)
    for row, partner in enumerate(found):
        block = range(row // batch * batch, min(row // batch * batch + batch, len(prompts)))
        if any(prompts[other] != prompts[row] for other in block):
            assert partner in block
            assert prompts[partner] != prompts[row]
            between = [b for b in block if (b - partner) % len(block) < (row - partner) % len(block)]
            assert {prompts[b] for b in between if b != partner} <= {prompts[row]}
        else:
            assert partner == (row - 1) % len(prompts)


def _moved(rows: Dataset) -> Dataset:
    return rows.select(range(len(rows) - 1, -1, -1))


@pytest.mark.parametrize("reorder", [lambda rows: rows, _moved], ids=["as given", "reversed"])
def test_conversion_of_selected_rows(reorder: Callable[[Dataset], Dataset]) -> None:
    """Rows that prepare() selected are views into a larger table: their columns must stay together."""
    rows = reorder(HELD[PREFERENCE])
    for wanted in TRAINED:
        converted = read(convert(rows, PREFERENCE, wanted, batch=4, seed=0))
        assert sorted(map(str, converted)) == sorted(map(str, POSSIBLE[PREFERENCE, wanted]))

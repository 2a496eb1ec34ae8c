"""One rule above all layouts: a column that is dropped, renamed or added changes nothing that no line names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alignzoo import DataFormat, UserError
from alignzoo.data.columns import Unread
from alignzoo.data.messages import BadRow
from alignzoo.data.recognise import recognise

CASES = Path(__file__).with_name("cases")
INPUTS = Path(__file__).with_name("inputs")
COLUMNS = Path(__file__).with_name("columns")

Row = dict[str, Any]

TWINS = {"label": "kto_tag", "system": "system_prompt"}  #: columns that say the same: beside one, the other is refused


def load(file: Path) -> list[Row]:
    text = file.read_text(encoding="utf-8-sig")
    rows: list[Row] = json.loads(text) if file.suffix == ".json" else [json.loads(x) for x in text.splitlines() if x]
    return rows


def read(rows: list[Row], **dataset: Any) -> tuple[list[Row], str]:
    """Return the canonical rows, and every line that a run on pairs or single answers prints of the columns."""
    settings = OmegaConf.create({"columns": None, "chat": False, "layout": None, "roles": None, **dataset})
    layout = recognise(rows, settings, "rows.jsonl")
    found = [shaped for row in rows for shaped in layout.rows(row)]
    return found, "\n".join([str(layout), *layout.unread.describe(layout.kind)])


def try_reading(rows: list[Row]) -> tuple[list[Row] | None, str]:
    """Return what :func:`read` returns, or None and the reason why the rows are refused."""
    try:
        return read(rows)
    except (UserError, BadRow) as error:
        return None, str(error)


def is_read(file: Path) -> bool:
    try:
        read(load(file))
    except (UserError, BadRow, ValueError, AttributeError):
        return False
    return True


FILES = [
    file
    for file in sorted([*CASES.glob("*.json*"), *INPUTS.glob("*.jsonl"), *COLUMNS.glob("*.jsonl")])
    if is_read(file)
]

#: Columns that somebody may add, with what they may hold.
ADDED: Row = {
    "source": "web", "score": 3.5, "label": False, "system": "Speak like a pirate.", "weight": 0, "image": "a.png",
    "images": [{"bytes": "x", "path": None}], "video_path": "a.mp4", "audio": {"path": "a.wav"}, "loss_weight": 0.0,
    "tools": [{"type": "function", "function": {"name": "tides"}}], "reasoning": "Because it is.", "thinking": "Hm.",
    "chat_template_kwargs": {"enable_thinking": False}, "question": "What was asked here?", "query": "And this?",
    "context": "A text to read first.", "input": "More about it.", "history": [["Hi", "Hello."]], "kto_tag": False,
    "messages": [{"role": "user", "content": "Hi"}], "rejected_response": "No.", "system_prompt": "Be rude.",
    "instruction": "Do this now.", "rejected": "Bad answer.", "prompt": "Another prompt here.", "topic": None,
    "conversations": [{"from": "human", "value": "Hi"}], "functions": [{"name": "weather"}], "completion": "Another.",
}  # fmt: skip

#: Of these, what says how a row is trained: named alone is not enough.
DECISIVE = {
    "label", "system", "weight", "image", "images", "video_path", "audio", "loss_weight", "tools", "reasoning",
    "thinking", "chat_template_kwargs", "kto_tag", "system_prompt", "functions",
    "rejected_response", "rejected",
}  # fmt: skip


def changes(rows: list[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Yield what is done to which column, and the rows after it."""
    for name in sorted({name for row in rows for name in row}):
        yield "drop", name, [{k: v for k, v in row.items() if k != name} for row in rows]
        yield "rename", f"{name}_2", [{f"{name}_2" if k == name else k: v for k, v in row.items()} for row in rows]
    for name, value in ADDED.items():
        if not any(name in row for row in rows):
            yield "add", name, [{**row, name: value} for row in rows]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_changes_without_a_line_that_names_the_column(file: Path) -> None:
    before, said_before = read(load(file))
    for what, name, rows in changes(load(file)):
        after, said = try_reading(rows)
        if what == "drop":
            assert after in (before, None) or name in said_before, f"{name} is dropped: {said}"
        elif name != "id_2":
            named = name in said or TWINS.get(name, name) in said
            assert named or (after is None and (what, name not in DECISIVE) != ("add", False)), f"{what} {name}: {said}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_changes_the_training_is_used_or_refused(file: Path) -> None:
    before, said_before = read(load(file))
    if "(prompts)" in said_before:
        pytest.skip("rewards read what stands beside a prompt")
    for what, name, rows in changes(load(file)):
        if what == "add" and name in DECISIVE:
            after, said = try_reading(rows)
            assert after != before, f"{name} is named only: {said}"


@pytest.mark.parametrize("name", sorted(DECISIVE - {"system", "tools", "chat_template_kwargs"}))
def test_a_column_that_begins_late_is_refused_too(name: str) -> None:
    """The first 20 rows show the layout; a later row may have more columns."""
    rows: list[Row] = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]}] * 20
    settings = OmegaConf.create({"columns": None, "chat": False, "layout": None, "roles": None})
    layout = recognise(rows, settings, "rows.jsonl")
    with pytest.raises(BadRow, match=name):
        list(layout.rows({**rows[0], name: ADDED[name]}))


def test_a_late_column_without_consequence_is_named() -> None:
    rows: list[Row] = [{"prompt": "Q", "completion": "A"}]
    layout = recognise(rows, OmegaConf.create({"columns": None, "chat": False, "layout": None, "roles": None}), "x")
    list(layout.rows({**rows[0], "source": "web"}))
    assert layout.unread.describe(layout.kind) == ["not read: source"]
    assert layout.extra({**rows[0], "source": "web"}) == {"source": "web"}


def test_fields_of_messages_are_named() -> None:
    turns = [{"role": "user", "content": "Hi", "user_id": 7, "lang": None}, {"role": "assistant", "content": "A"}]
    _, said = read([{"messages": turns, "source": "web"}])
    assert said.splitlines()[1:] == ["not read: source, in messages: user_id"]


@pytest.mark.parametrize("field", ["images", "loss_scale", "train_detail", "label"])
def test_fields_of_messages_that_change_the_training_are_refused(field: str) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A", field: ["x"]}]
    with pytest.raises(BadRow, match=f"messages has a message with {field}"):
        read([{"messages": turns}])


def test_rewards_read_further_columns_beside_prompts() -> None:
    unread = Unread({"answer", "level"}, {"lang"})
    assert unread.describe(DataFormat.PROMPTS) == ["not read: in messages: lang", "for rewards: answer, level"]
    assert unread.describe(DataFormat.PREFERENCE) == ["not read: answer, level, in messages: lang"]


def test_a_column_can_be_left_out_on_purpose() -> None:
    rows = [{"prompt": "Q", "chosen": "A", "rejected": "B", "label": True}]
    with pytest.raises(
        UserError, match=r"the column label would change .* 'dataset.columns=\{label: null\}' leaves it out"
    ):
        read(rows)
    _, said = read(rows, columns={"label": None})
    assert said == "pairs (preference): chosen, prompt, rejected; left out: label"


def test_labels_of_two_kinds_are_refused() -> None:
    """1 and 0, or 1 and -1: of 1, 0 and -1, which are bad answers is a guess."""
    rows = [{"prompt": "Q", "completion": text, "label": label} for text, label in (("A", 1), ("B", 0), ("C", -1))]
    with pytest.raises(BadRow, match="label is -1 where other rows have 0"):
        read(rows)


PAIR: Row = {"prompt": "Q1", "chosen": "It is A", "rejected": "It is B"}


@pytest.mark.parametrize("question", ["question", "topic", None])
def test_no_prompt_is_made_of_the_answers_where_other_rows_have_one(question: str | None) -> None:
    """The answers' common beginning, `It is`, was the prompt of such a row."""
    other = {name: value for name, value in PAIR.items() if name != "prompt"} | ({question: "Q2"} if question else {})
    with pytest.raises(BadRow, match=r"^prompt is missing: .* write it in all"):
        read([PAIR, other])


@pytest.mark.parametrize("history", [[], None])
def test_a_history_makes_conversations_of_all_rows(history: Any) -> None:
    row = {"prompt": "Q", "completion": "A"}
    found, _ = read([{**row, "history": [["Hi", "Hello."]]}, {**row, "history": history}, row])
    assert [[turn["role"] for turn in shaped["prompt"]] for shaped in found] == [
        ["user", "assistant", "user"],
        ["user"],
        ["user"],
    ]


def test_a_history_that_begins_late_is_refused() -> None:
    rows = [{"prompt": f"Q{n}", "completion": "A"} for n in range(20)]
    late = {**rows[0], "history": [["Hi", "Hello."]]}
    settings = OmegaConf.create({"columns": None, "chat": False, "layout": None, "roles": None})
    with pytest.raises(BadRow, match=r"history begins late: .* set dataset.chat=true"):
        list(recognise(rows, settings, "rows.jsonl").rows(late))
    settings.chat = True
    (shaped,) = recognise(rows, settings, "rows.jsonl").rows(late)
    assert [turn["content"] for turn in shaped["prompt"]] == ["Hi", "Hello.", "Q0"]


def test_a_label_may_be_the_text_of_a_float() -> None:
    rows = [{"prompt": f"Q{n}", "completion": "A", "label": label} for n, label in enumerate(("1.0", "0.0", "True"))]
    assert [shaped["label"] for shaped in read(rows)[0]] == [True, False, True]
    assert [shaped["label"] for shaped in read([{**rows[0], "label": "-1.0"}])[0]] == [False]


@pytest.mark.parametrize("user", ["human", "Human"])
def test_messages_as_json_text_have_their_roles_mapped_too(user: str) -> None:
    """Such text was trained as it stands, brackets and all."""
    answers = {name: json.dumps([{"role": "gpt", "content": name}]) for name in ("chosen", "rejected")}
    rows = [{"prompt": json.dumps([{"role": user, "content": "Q"}]), **answers}]
    if user == "Human":
        with pytest.raises(BadRow, match="prompt has the role 'Human'; known are"):
            read(rows)
    (shaped,), _ = read(rows, roles={"Human": "user"})
    assert shaped["prompt"] == [{"role": "user", "content": "Q"}]
    assert shaped["chosen"] == [{"role": "assistant", "content": "chosen"}]


NEAR = (
    *("labels", "kto_label", "is_good", "is_correct", "desirable", "Label", "system_instruction", "sys_prompt"),
    *("system_msg", "System", "available_tools", "tool_list", "loss_mask", "sample_weight", "weights", "cot"),
    *("rationale", "chain_of_thought", "think", "reasoning_trace", "enable_thinking", "documents"),
)
PICTURES = ("image_base64", "image1", "images_list", "input_image", "Image", "chosen_images")


@pytest.mark.parametrize("name", [*NEAR, *PICTURES])
def test_a_column_whose_name_is_near_a_decisive_one_is_refused(name: str) -> None:
    for row in (PAIR, {"prompt": "Q", "completion": "A"}):
        told = rf"the column {name} .* 'dataset.columns=\{{{name}: null\}}' leaves it out"
        with pytest.raises(UserError, match=told):
            read([{**row, name: "x"}])
        read([{**row, name: None}])


@pytest.mark.parametrize("name", NEAR)
def test_beside_prompts_it_is_carried_for_rewards(name: str) -> None:
    _, said = read([{"prompt": "Q", name: "x"}])
    assert said.splitlines()[1:] == [f"for rewards: {name}"]


@pytest.mark.parametrize("name", ["imagery", "topic", "thinker", "is_public", "toolbox", "imaginary"])
def test_other_names_are_named_only(name: str) -> None:
    _, said = read([{**PAIR, name: "x"}])
    assert said.splitlines()[1:] == [f"not read: {name}"]


def test_a_label_under_another_name_is_read_as_advised() -> None:
    rows = [{"prompt": "Q", "completion": answer, "is_good": answer == "A"} for answer in "AB"]
    with pytest.raises(UserError, match=r"'dataset.columns=\{is_good: label\}' reads it"):
        read(rows)
    assert [shaped["label"] for shaped in read(rows, columns={"is_good": "label"})[0]] == [True, False]


@pytest.mark.parametrize("name", ["score_chosen", "rejected_score", "chosen-rating"])
def test_the_score_of_one_answer_is_named(name: str) -> None:
    """It gives no margin."""
    (shaped,), said = read([{**PAIR, name: 3.0}])
    assert said.splitlines()[1:] == [f"not read: {name}"]
    assert "margin" not in shaped


@pytest.mark.parametrize(("score", "margin"), [("high", BadRow), (True, BadRow), (math.inf, BadRow), ("3", 1.0)])
def test_a_score_that_is_not_a_number_is_refused(score: Any, margin: Any) -> None:
    rows = [{**PAIR, "score_chosen": score, "score_rejected": 2}]
    if margin is BadRow:
        with pytest.raises(BadRow, match=f"score_chosen is {score!r}; it must be a number"):
            read(rows)
    else:
        assert read(rows)[0][0]["margin"] == margin


@pytest.mark.parametrize("score", [None, "", math.nan])
def test_a_score_without_a_value_gives_no_margin(score: Any) -> None:
    (shaped,), _ = read([{**PAIR, "score_chosen": score, "score_rejected": 2}])
    assert "margin" not in shaped


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q", "response": "A", "rejected": "B"},
        {"instruction": "Q", "output": "A", "rejected": "B"},
        {"question": "Q", "completion": "A", "rejected_response": "B"},
    ],
    ids=["response", "output", "both"],
)
def test_what_is_advised_about_a_rejected_answer_makes_pairs(row: Row) -> None:
    with pytest.raises(UserError) as raised:
        read([row])
    columns = re.findall(r"'dataset.columns=(\{[^}]*\})' makes pairs", str(raised.value))
    found, _ = read([row], columns=OmegaConf.create(columns[0]))
    assert [[shaped[name][0]["content"] for name in ("prompt", "chosen", "rejected")] for shaped in found] == [
        list("QAB")
    ]


@pytest.mark.parametrize(
    ("beside", "shown"), [("completion", "answers (supervised)"), ("solution", "prompts (prompts)")]
)
def test_what_is_advised_about_messages_that_are_the_question_reads_them(beside: str, shown: str) -> None:
    rows = [{"messages": [{"role": "user", "content": "Q"}], beside: "A"}]
    with pytest.raises(BadRow, match=r"end with an assistant's turn; .* 'dataset.columns=\{messages: prompt\}'"):
        read(rows)
    (shaped,), said = read(rows, columns={"messages": "prompt"})
    assert said.startswith(shown)
    assert shaped["prompt"] == rows[0]["messages"]

"""Every layout becomes the canonical row that it stands for; every unusable row is refused with its reason."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from omegaconf import DictConfig, OmegaConf

from alignzoo import DataFormat, UserError
from alignzoo.data.layout import Layout
from alignzoo.data.layouts import SHAPES
from alignzoo.data.messages import BadRow
from alignzoo.data.recognise import recognise

Messages = list[dict[str, str]]
Row = dict[str, Any]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def text(content: str) -> Messages:
    """Return plain text as canonical rows hold it."""
    return [{"role": "text", "content": content}]


def settings(
    columns: dict[str, str | None] | None = None,
    chat: bool = False,
    layout: str | None = None,
    roles: dict[str, str] | None = None,
) -> DictConfig:
    return OmegaConf.create({"columns": columns or {}, "chat": chat, "layout": layout, "roles": roles})


def layout_of(row: Row, **more: Any) -> Layout:
    return recognise([row], settings(**more), "pairs.jsonl")


class Case(NamedTuple):
    """A row, the layout it has, and the canonical rows it stands for."""

    what: str
    layout: str
    row: Row
    expected: list[Row]


def pair(prompt: Messages, chosen: Messages, rejected: Messages) -> Row:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


HI_AB = pair([user("Hi")], [says("A")], [says("B")])

TURNS = [user("Hi"), says("Hello."), user("And?")]

CASES = [
    # TRL's formats
    Case(
        *("text, explicit prompt", "pairs", {"prompt": "Q", "chosen": "A", "rejected": "B"}),
        [pair(text("Q"), text("A"), text("B"))],
    ),
    Case(
        *("text, explicit prompt, repeated", "pairs", {"prompt": "Q:", "chosen": "Q: A", "rejected": "Q: B"}),
        [pair(text("Q:"), text(" A"), text(" B"))],
    ),
    Case(
        *("text, implicit prompt", "pairs", {"chosen": "The sky is blue.", "rejected": "The sky is green."}),
        [pair(text("The sky is"), text(" blue."), text(" green."))],
    ),
    Case(
        *("text, implicit prompt, ending within a word", "pairs"),
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        [pair(text("The sky is"), text(" blue."), text(" black."))],
    ),
    Case(
        *("conversation, explicit prompt", "pairs"),
        {"prompt": [user("Hi")], "chosen": [says("A")], "rejected": [says("B")]},
        [HI_AB],
    ),
    Case(
        *("conversation, implicit prompt", "pairs"),
        {"chosen": [user("Hi"), says("A")], "rejected": [user("Hi"), says("B")]},
        [HI_AB],
    ),
    Case(
        *("conversation of several turns, implicit prompt", "pairs"),
        {"chosen": [system("S"), *TURNS, says("A")], "rejected": [system("S"), *TURNS, says("B")]},
        [pair([system("S"), *TURNS], [says("A")], [says("B")])],
    ),
    Case(
        *("text prompt beside answers as messages", "pairs"),
        {"prompt": "Hi", "chosen": [says("A")], "rejected": [says("B")]},
        [HI_AB],
    ),
    Case(
        *("text prompt beside conversations that repeat it", "pairs"),
        {"prompt": "Hi", "chosen": [user("Hi"), says("A")], "rejected": [user("Hi"), says("B")]},
        [HI_AB],
    ),
    Case(
        *("messages prompt beside conversations that repeat it", "pairs"),
        {"prompt": TURNS, "chosen": [*TURNS, says("A")], "rejected": [*TURNS, says("B")]},
        [pair(TURNS, [says("A")], [says("B")])],
    ),
    Case(
        *("messages prompt beside answers as text", "pairs"),
        {"prompt": [user("Hi")], "chosen": "A", "rejected": "B"},
        [HI_AB],
    ),
    Case(
        *("answers as one message each", "pairs"),
        {"prompt": [user("Hi")], "chosen": says("A"), "rejected": says("B")},
        [HI_AB],
    ),
    Case(
        *("further keys of a message that no template reads are left out", "pairs"),
        {"prompt": [{**user("Hi"), "lang": "en"}], "chosen": [{**says("A"), "weight": 1}], "rejected": [says("B")]},
        [HI_AB],
    ),
    Case(
        *("a system prompt beside text makes a conversation of it", "pairs"),
        {"system": "S", "prompt": "Hi", "chosen": "A", "rejected": "B"},
        [pair([system("S"), user("Hi")], [says("A")], [says("B")])],
    ),
    Case(
        *("messages and scores beside pairs (UltraFeedback binarized)", "pairs"),
        {"prompt": "Hi", "chosen": [user("Hi"), says("A")], "rejected": [user("Hi"), says("B")]}
        | {"prompt_id": "1", "messages": [user("Hi"), says("A")], "score_chosen": 8.0},
        [HI_AB],
    ),
    Case(
        *("several rejected texts", "pairs", {"prompt": "Q", "chosen": "A", "rejected": ["B", "C"]}),
        [pair(text("Q"), text("A"), text("B")), pair(text("Q"), text("A"), text("C"))],
    ),
    Case(
        *("several rejected conversations", "pairs"),
        {"prompt": [user("Hi")], "chosen": [says("A")], "rejected": [[says("B")], [says("C")]]},
        [HI_AB, pair([user("Hi")], [says("A")], [says("C")])],
    ),
    Case(
        *("unpaired text", "marked", {"prompt": "Q", "completion": "A", "label": True}),
        [{"prompt": text("Q"), "completion": text("A"), "label": True}],
    ),
    Case(
        *("unpaired conversation, label 0", "marked"),
        {"prompt": [user("Hi")], "completion": [says("A")], "label": 0},
        [{"prompt": [user("Hi")], "completion": [says("A")], "label": False}],
    ),
    Case(
        *("unpaired conversation, implicit prompt, label 1", "marked"),
        {"completion": [*TURNS, says("A")], "label": 1},
        [{"prompt": TURNS, "completion": [says("A")], "label": True}],
    ),
    Case(
        *("prompt and completion", "answers", {"prompt": "Q", "completion": "A"}),
        [{"prompt": text("Q"), "completion": text("A")}],
    ),
    Case(
        *("prompt and completion as messages", "answers", {"prompt": TURNS, "completion": [says("A")]}),
        [{"prompt": TURNS, "completion": [says("A")]}],
    ),
    Case(
        *("messages only: the last turn is the answer", "messages", {"messages": [system("S"), *TURNS, says("A")]}),
        [{"prompt": [system("S"), *TURNS], "completion": [says("A")]}],
    ),
    Case("text only", "text", {"text": "Once."}, [{"prompt": text(""), "completion": text("Once.")}]),
    Case("prompts", "prompts", {"prompt": "Q"}, [{"prompt": text("Q")}]),
    Case("prompts as messages", "prompts", {"prompt": TURNS}, [{"prompt": TURNS}]),
    Case(
        *("scored", "scored", {"prompt": "Q", "completion": "A", "score": 3.5}),
        [{"prompt": text("Q"), "completion": text("A"), "score": 3.5}],
    ),
    # axolotl's and ms-swift's
    Case(
        *("a conversation so far, and one turn each", "messages-pairs"),
        {"messages": TURNS, "chosen": says("A"), "rejected": says("B")},
        [pair(TURNS, [says("A")], [says("B")])],
    ),
    Case(
        *("a conversation that ends with the chosen turn", "messages-pairs"),
        {"messages": [user("Hi"), says("A")], "chosen": "A", "rejected": "B"},
        [HI_AB],
    ),
    Case(
        *("a good conversation, and a worse last turn", "swift-pairs"),
        {"messages": [user("Hi"), says("A")], "rejected_response": "B"},
        [HI_AB],
    ),
    Case(
        *("a conversation with a label", "messages-marked"),
        {"messages": [user("Hi"), says("A")], "label": "False"},
        [{"prompt": [user("Hi")], "completion": [says("A")], "label": False}],
    ),
    Case(
        *("exchanges", "exchanges"),
        {"conversation": [{"human": "Hi", "assistant": "Hello."}, {"human": "And?", "assistant": "A"}], "system": "S"},
        [{"prompt": [system("S"), *TURNS], "completion": [says("A")]}],
    ),
    Case(
        *("exchanges with a label", "exchanges-marked"),
        {"conversation": [{"input": "Hi", "output": "A"}], "label": 1},
        [{"prompt": [user("Hi")], "completion": [says("A")], "label": True}],
    ),
    Case(
        *("a conversation so far that is called chosen", "chosen-marked"),
        {"chosen": [user("Hi")], "completion": [says("A")], "label": -1},
        [{"prompt": [user("Hi")], "completion": [says("A")], "label": False}],
    ),
    # Others' formats
    Case(
        *("HH-RLHF transcripts", "transcripts"),
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: And?\n\nAssistant: A"}
        | {"rejected": "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: And?\n\nAssistant: B"},
        [pair(TURNS, [says("A")], [says("B")])],
    ),
    Case(
        *("ShareGPT pairs", "sharegpt-pairs"),
        {"conversations": [{"from": "human", "value": "Hi"}], "system": "S"}
        | {"chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}},
        [pair([system("S"), user("Hi")], [says("A")], [says("B")])],
    ),
    Case(
        *("ShareGPT marked", "sharegpt-marked"),
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "A"}], "kto_tag": False},
        [{"prompt": [user("Hi")], "completion": [says("A")], "label": False}],
    ),
    Case(
        *("ShareGPT with tools", "sharegpt"),
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "A"}]}
        | {"tools": '[{"name": "weather"}]'},
        [{"prompt": [user("Hi")], "completion": [says("A")], "tools": [{"name": "weather"}]}],
    ),
    Case(
        *("Alpaca", "alpaca", {"instruction": "Add.", "input": "1, 2", "output": "3"}),
        [{"prompt": [user("Add.\n1, 2")], "completion": [says("3")]}],
    ),
    Case(
        *("Alpaca with history and system, without input", "alpaca"),
        {"instruction": "And?", "input": "", "output": "A", "history": [["Hi", "Hello."]], "system": "S"},
        [{"prompt": [system("S"), *TURNS], "completion": [says("A")]}],
    ),
    Case(
        *("Alpaca pairs", "alpaca-pairs", {"instruction": "Hi", "input": "", "chosen": "A", "rejected": "B"}),
        [HI_AB],
    ),
    Case(
        *("Alpaca marked", "alpaca-marked", {"instruction": "Hi", "output": "A", "kto_tag": True}),
        [{"prompt": [user("Hi")], "completion": [says("A")], "label": True}],
    ),
    Case(
        *("OpenAI", "openai-pairs"),
        {"input": {"messages": [user("Hi")], "tools": []}}
        | {"preferred_output": [says("A")], "non_preferred_output": [says("B")]},
        [HI_AB],
    ),
    Case(
        *("UltraFeedback: best against worst", "ultrafeedback"),
        {"instruction": "Q", "source": "x"}
        | {"completions": [{"response": r, "overall_score": s} for r, s in [("C", 5.0), ("A", 8.5), ("B", 2)]]},
        [pair(text("Q"), text("A"), text("B")) | {"margin": 6.5}],
    ),
    Case(
        *("Nectar: rank 1 against the last", "nectar"),
        {"prompt": "\n\nHuman: Hi\n\nAssistant: "}
        | {"answers": [{"answer": r, "rank": n} for r, n in [("C", 2.0), ("B", 3.0), ("A", 1.0)]]},
        [HI_AB],
    ),
    Case(
        *("scores beside responses", "scores", {"prompt": "Q", "responses": ["C", "A", "B"], "scores": [2, 3, -1]}),
        [pair(text("Q"), text("A"), text("B")) | {"margin": 4.0}],
    ),
    Case(
        *("ranks beside responses", "ranks", {"prompt": "Q", "responses": ["C", "A", "B"], "ranks": [2, 1, 3]}),
        [pair(text("Q"), text("A"), text("B"))],
    ),
    Case(
        *("SHP, B preferred", "shp", {"history": "Q", "human_ref_A": "B", "human_ref_B": "A", "labels": 0}),
        [pair(text("Q"), text("A"), text("B"))],
    ),
    Case(
        *("strength of preference, the second preferred", "strengths"),
        {"prompt": "Q", "response_1": "B", "response_2": "A", "preference_strength": 2},
        [pair(text("Q"), text("A"), text("B")) | {"margin": 2.0}],
    ),
    Case(
        *("HelpSteer's ratings", "ratings", {"prompt": "Q", "response": "A", "helpfulness": 3, "verbosity": 1}),
        [{"prompt": text("Q"), "completion": text("A"), "score": 3.0}],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_layout(case: Case) -> None:
    """The columns alone show the layout, as if the user named it; its canonical rows are these."""
    layout = layout_of(case.row)
    assert layout.shape.name == case.layout
    assert layout == layout_of(case.row, layout=case.layout)
    assert list(layout.rows(case.row)) == case.expected


def test_every_layout_has_a_case() -> None:
    added = {shape.name for shape in SHAPES} ^ {case.layout for case in CASES}
    assert not added, f"the layouts {sorted(added)} need a Case each in CASES of this file"


KINDS = {
    "pairs": DataFormat.PREFERENCE,
    "marked": DataFormat.UNPAIRED,
    "alpaca": DataFormat.SUPERVISED,
    "prompts": DataFormat.PROMPTS,
    "ratings": DataFormat.SCORED,
}


@pytest.mark.parametrize(("layout", "kind"), KINDS.items(), ids=KINDS)
def test_kind(layout: str, kind: DataFormat) -> None:
    case = next(case for case in CASES if case.layout == layout)
    assert layout_of(case.row).kind is kind


def test_chat_makes_conversations_of_text() -> None:
    row = {"prompt": "Hi", "chosen": "A", "rejected": "B"}
    assert list(layout_of(row, chat=True).rows(row)) == [HI_AB]


def test_chat_leaves_conversations_as_they_are() -> None:
    row = {"prompt": TURNS, "chosen": [says("A")], "rejected": [says("B")]}
    assert list(layout_of(row, chat=True).rows(row)) == [pair(TURNS, [says("A")], [says("B")])]


def test_chat_takes_an_implicit_prompt_out_of_the_answers() -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    expected = pair([user("The sky is")], [says(" blue.")], [says(" green.")])
    assert list(layout_of(row, chat=True).rows(row)) == [expected]


def test_columns_are_mapped_and_the_rest_kept_for_rewards() -> None:
    row = {"question": "Q", "good": "A", "bad": "B", "answer": 7, "id": "x"}
    layout = layout_of(row, columns={"question": "prompt", "good": "chosen", "bad": "rejected", "answer": "solution"})
    assert list(layout.rows(row)) == [pair(text("Q"), text("A"), text("B"))]
    assert layout.extra(row) == {"solution": 7}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "old", "question": "Q"},
        {"question": "Q", "prompt": "old"},
    ],
    ids=["before", "after"],
)
def test_a_mapped_column_wins_over_the_one_whose_name_it_takes(row: Row) -> None:
    assert list(layout_of(row, columns={"question": "prompt"}).rows(row)) == [{"prompt": text("Q")}]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([system("S"), user("Hi"), says("A")], id="system and question repeated"),
        pytest.param([user("Other"), says("A")], id="another question repeated"),
        pytest.param([says("Hello."), user("And?"), says("A")], id="several turns"),
    ],
)
def test_no_users_turn_is_trained_on(answers: Messages) -> None:
    """FACTS: TRL trains with the user's turn inside the completion; the row has to be refused or split rightly."""
    row = {"prompt": "Hi", "chosen": answers, "rejected": [*answers[:-1], says("B")]}
    try:
        (shaped,) = layout_of(row).rows(row)
    except BadRow:
        return
    assert [message["role"] for name in ("chosen", "rejected") for message in shaped[name]] == ["assistant"] * 2


def test_one_text_that_begins_with_its_prompt_keeps_it() -> None:
    row = {"prompt": "Hello", "chosen": "Hello! How can I help?", "rejected": "Go away."}
    assert list(layout_of(row).rows(row)) == [pair(text("Hello"), text("Hello! How can I help?"), text("Go away."))]


@pytest.mark.parametrize("columns", [("completion",), ("chosen", "rejected")], ids=["single", "pair"])
def test_answers_that_begin_with_the_prompts_letters_keep_them(columns: tuple[str, ...]) -> None:
    """`10 is ten.` does not repeat the prompt `1`."""
    answers = dict(zip(columns, ("10 is ten.", "1st of all."), strict=False))
    (shaped,) = layout_of({"prompt": "1", **answers}).rows({"prompt": "1", **answers})
    assert shaped == {"prompt": text("1"), **{name: text(answer) for name, answer in answers.items()}}


def test_a_single_answer_that_quotes_its_prompt_keeps_it() -> None:
    row = {"prompt": "What is two and two?", "completion": "What is two and two? Four."}
    assert list(layout_of(row).rows(row)) == [{"prompt": text(row["prompt"]), "completion": text(row["completion"])}]


@pytest.mark.parametrize(("prompt", "between"), [("Why?", " "), ("What is two and two?", "")], ids=["word", "long"])
def test_a_prompt_that_both_answers_repeat_is_taken_out(prompt: str, between: str) -> None:
    answers = {"chosen": f"{prompt}{between}A", "rejected": f"{prompt}{between}B"}
    (shaped,) = layout_of({"prompt": prompt, **answers}).rows({"prompt": prompt, **answers})
    assert shaped == pair(text(prompt), text(f"{between}A"), text(f"{between}B"))


@pytest.mark.parametrize("repeats", ["chosen", "rejected"])
def test_one_conversation_that_begins_with_its_prompt_is_refused(repeats: str) -> None:
    """Had both begun with it, it would have been taken out of both."""
    row = {"prompt": [user("Hi")], "chosen": [says("A")], "rejected": [says("B")]}
    with pytest.raises(BadRow, match=f"^{repeats} is a conversation that does not begin with its prompt"):
        list(layout_of(row).rows(row | {repeats: [user("Hi"), *row[repeats]]}))


def test_an_answer_that_the_other_goes_on_from_is_refused() -> None:
    row = {"chosen": [user("Hi"), says("A")], "rejected": [user("Hi"), says("A"), user("And?"), says("B")]}
    with pytest.raises(BadRow):
        list(layout_of(row).rows(row))


GOOD_PAIR = {"prompt": "Q", "chosen": "A", "rejected": "B"}

BAD_ROWS = [
    (GOOD_PAIR | {"prompt": None}, "prompt is null"),
    (GOOD_PAIR | {"chosen": None}, "chosen is null"),
    (GOOD_PAIR | {"rejected": None}, "rejected is null"),
    (GOOD_PAIR | {"prompt": ""}, "prompt is empty"),
    (GOOD_PAIR | {"prompt": " \n"}, "prompt is empty"),
    (GOOD_PAIR | {"chosen": ""}, "chosen is empty"),
    (GOOD_PAIR | {"rejected": " \n\t"}, "rejected is empty"),
    (GOOD_PAIR | {"prompt": []}, "prompt is empty"),
    (GOOD_PAIR | {"chosen": []}, "chosen is empty"),
    (GOOD_PAIR | {"rejected": "A"}, "chosen equals rejected"),
    (GOOD_PAIR | {"chosen": 7}, "chosen is int; it must be text or a list of messages"),
    (GOOD_PAIR | {"prompt": ["Q"]}, "prompt holds a message without role and content"),
    (GOOD_PAIR | {"chosen": [{"role": "assistant"}]}, "chosen holds a message without role and content"),
    (GOOD_PAIR | {"chosen": [{"role": "bot", "content": "A"}]}, "chosen has the role 'bot'; known are assistant, "),
    (GOOD_PAIR | {"chosen": [{"role": "assistant", "content": None}]}, "chosen has a message whose content is null"),
    (GOOD_PAIR | {"chosen": [{"role": "assistant", "content": []}]}, "chosen is empty"),
    (GOOD_PAIR | {"chosen": "A\ud83d"}, "chosen holds half a surrogate pair, which is not a character"),
    (GOOD_PAIR | {"chosen": [user("A")]}, "chosen ends with the role 'user'; it must end with the assistant's turn"),
    ({"chosen": "Yes", "rejected": "No"}, "prompt is empty"),
    ({"chosen": [user("a"), says("A")], "rejected": [user("b"), says("A")]}, "the two histories differ at turn 1"),
    ({"chosen": [user("a")], "rejected": [user("a"), says("B")]}, "the two histories differ at turn 2"),
    ({"prompt": [user("Hi")], "completion": [says(" ")]}, "completion is empty"),
    ({"prompt": [user("")], "completion": [says("A")]}, "prompt is empty"),
    ({"messages": [user("Hi")]}, "the conversation does not end with an assistant's turn"),
    ({"messages": []}, "the conversation does not end with an assistant's turn"),
    ({"messages": [says("A")]}, "prompt is empty"),
    ({"messages": None}, "messages is null"),
    ({"text": ""}, "completion is empty"),
    ({"prompt": "Q", "completion": "A", "label": None}, "label is null; it must be true or false"),
    ({"prompt": "Q", "completion": "A", "label": "yes"}, "label is 'yes'; it must be true or false"),
    ({"prompt": "Q", "completion": "A", "label": 2}, "label is 2; it must be true or false"),
    ({"prompt": "Q", "completion": "A", "label": -2}, "label is -2; it must be true or false"),
    ({"prompt": "Q", "completion": "A", "label": 0.5}, "label is 0.5; it must be true or false"),
    (
        {"chosen": "\n\nHuman: Hi\n\nAssistant: A\n\nHuman: B", "rejected": "\n\nHuman: Hi\n\nAssistant: C"},
        "the two histories differ at turn 2",
    ),
    (
        {"chosen": "Hm.\n\nHuman: Hi\n\nAssistant: A", "rejected": "\n\nHuman: Hi\n\nAssistant: B"},
        "chosen is not a transcript: it must start with a Human turn",
    ),
    ({"conversations": None}, "conversations is null"),
    ({"conversations": ["Hi"]}, "conversations is not a list of turns"),
    ({"conversations": [{"from": "cat", "value": "Miaow"}]}, "conversations has the role 'cat'; known are assistant"),
    ({"conversations": [{"from": "human", "value": None}]}, "conversations has a turn whose text is null"),
    ({"conversations": [{"from": "human", "value": "Hi"}]}, "the conversation does not end with an assistant's turn"),
    ({"instruction": None, "output": "A"}, "instruction is null"),
    ({"instruction": "Hi", "output": None}, "output is null; it must be text"),
    ({"instruction": "Hi", "output": ""}, "completion is empty"),
    ({"input": {}, "preferred_output": [], "non_preferred_output": []}, "input has no list of messages"),
    ({"instruction": "Hi", "completions": None}, "completions is null; it must be a list"),
    ({"instruction": "Hi", "completions": [{"response": "A", "overall_score": 1}]}, "completions has 1 answers"),
    ({"prompt": "Q", "responses": ["A", "B"], "scores": [1]}, "responses has 2 items and scores 1"),
    ({"prompt": "Q", "responses": ["A", "B"], "scores": [1, 1]}, "scores: all answers have the same score"),
    ({"prompt": "Q", "responses": ["A", "B"], "scores": [1, "high"]}, "scores has the score 'high'"),
    ({"prompt": "Q", "responses": ["A", "B"], "scores": [1, float("nan")]}, "scores has the score nan"),
    ({"prompt": "Q", "responses": ["A", "B"], "ranks": [1, None]}, "ranks has the score None"),
    ({"history": "Q", "human_ref_A": "A", "human_ref_B": "B", "labels": 3}, "labels is 3; it must be 0 or 1"),
    (
        {"prompt": "Q", "response_1": "A", "response_2": "B", "preference_strength": 0},
        "preference_strength is 0: neither answer is preferred",
    ),
    ({"prompt": "Q", "response": "A", "helpfulness": None}, "helpfulness has the score None; it must be a number"),
]


@pytest.mark.parametrize(
    ("row", "reason"), BAD_ROWS, ids=[f"{reason[:40]} {n}" for n, (_, reason) in enumerate(BAD_ROWS)]
)
def test_bad_row(row: Row, reason: str) -> None:
    with pytest.raises(BadRow) as raised:
        list(layout_of(row).rows(row))
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        pytest.param(GOOD_PAIR, {"prompt": "Q", "chosen": "A"}, id="pairs"),
        pytest.param({"prompt": "Q", "completion": "A"}, {"prompt": "Q"}, id="answers"),
        pytest.param(
            {"prompt": "Q", "completion": "A", "label": True}, {"prompt": "Q", "completion": "A"}, id="marked"
        ),
        pytest.param({"instruction": "Q", "output": "A"}, {"instruction": "Q"}, id="alpaca"),
        pytest.param({"conversations": [], "kto_tag": True}, {"conversations": [user("Q"), says("A")]}, id="sharegpt"),
        pytest.param({"prompt": "Q", "completion": "A", "score": 1}, {"prompt": "Q", "completion": "A"}, id="scored"),
    ],
)
def test_a_later_row_without_a_needed_key_is_bad(first: Row, later: Row) -> None:
    layout = recognise([first], settings(), "pairs.jsonl")
    with pytest.raises(BadRow):
        list(layout.rows(later))


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"a": 1, "b": 2}, {}, "pairs.jsonl has the columns a, b: no layout that alignzoo knows.\nMap yours"),
        (
            {"question": "Q", "answer": "A"},
            {"questoin": "prompt"},
            "dataset.columns: pairs.jsonl has no column 'questoin'. Did you mean question?\nIt has: answer, question.",
        ),
        (
            {"prompt": "Q", "completion": "A", "chosen": "A", "rejected": "B"},
            {},
            "pairs.jsonl could be read in 2 ways: pairs (chosen, rejected); answers (completion, prompt).\n"
            "Say which: dataset.layout=pairs.",
        ),
    ],
    ids=["none", "mapping", "several"],
)
def test_unknown_layouts_are_refused(row: Row, columns: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        layout_of(row, columns=columns)
    assert message in str(raised.value)


def test_an_ambiguity_is_settled_by_the_user() -> None:
    row = {"prompt": "Q", "completion": "C", "chosen": "A", "rejected": "B"}
    assert list(layout_of(row, layout="pairs").rows(row)) == [pair(text("Q"), text("A"), text("B"))]
    assert list(layout_of(row, layout="answers").rows(row)) == [{"prompt": text("Q"), "completion": text("C")}]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("pair", "dataset.layout=pair must be one of transcripts, "),
        ("marked", "dataset.layout=marked needs the columns completion, label, which pairs.jsonl lacks."),
    ],
)
def test_a_layout_that_cannot_be(layout: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        layout_of(GOOD_PAIR, layout=layout)
    assert message in str(raised.value)


def test_marked_text_without_prompt_says_what_is_missing() -> None:
    row = {"completion": "A", "label": True}
    with pytest.raises(BadRow, match="prompt"):
        list(layout_of(row).rows(row))

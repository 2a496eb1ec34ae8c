"""Every layout that axolotl, ms-swift, XTuner, LLaMA-Factory and OpenAI document is read as it means it."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from alignzoo.data.messages import BadRow
from alignzoo.data.recognise import recognise

Row = dict[str, Any]


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def says(text: str) -> Row:
    return {"role": "assistant", "content": text}


def text(content: str) -> list[Row]:
    return [{"role": "text", "content": content}]


def part(role: str, kind: str, value: str, weight: float) -> Row:
    """Return a message in LLaMA-Factory v1's way."""
    return {"role": role, "content": [{"type": kind, "value": value}], "loss_weight": weight}


SYSTEM = {"role": "system", "content": "S"}
CALL = {
    **says(""),
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
}
HI, A, B = user("Hi"), says("A"), says("B")
PAIR = {"prompt": [HI], "chosen": [A], "rejected": [B]}
PLAIN_PAIR = {"prompt": text("Hi"), "chosen": text("A"), "rejected": text("B")}
SYSTEM_PAIR = {**PAIR, "prompt": [SYSTEM, HI]}
GOOD = {"prompt": [HI], "completion": [A]}
PLAIN_GOOD = {"prompt": text("Hi"), "completion": text("A")}
BAD = {**GOOD, "label": False}
TURNS = [HI, says("Hello."), user("And?")]
BOTH = {"chosen": [HI, A], "rejected": [HI, B]}
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
ASKED, ANSWERED = {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "A"}
WORSE = {"from": "gpt", "value": "B"}

AXOLOTL = {
    "dpo chatml.argilla": ({"instruction": "Hi", "chosen_response": "A", "rejected_response": "B"}, PAIR),
    "dpo chatml.argilla, system": (
        {"system": "S", "instruction": "Hi", "chosen_response": "A", "rejected_response": "B"},
        SYSTEM_PAIR,
    ),
    "dpo chatml.argilla_chat": (BOTH, PAIR),
    "dpo chatml.icr": ({"system": "S", "input": "Hi", "chosen": "A", "rejected": "B"}, SYSTEM_PAIR),
    "dpo chatml.icr, no system": ({"input": "Hi", "chosen": "A", "rejected": "B"}, PLAIN_PAIR),
    "dpo chatml.intel": ({"system": "S", "question": "Hi", "chosen": "A", "rejected": "B"}, SYSTEM_PAIR),
    "dpo chatml.intel, empty system": ({"system": "", "question": "Hi", "chosen": "A", "rejected": "B"}, PAIR),
    "dpo chatml.prompt_pairs": ({"system": "S", "prompt": "Hi", "chosen": "A", "rejected": "B"}, SYSTEM_PAIR),
    "dpo chatml.ultra": ({"system": "S", "prompt": "Hi", **BOTH}, SYSTEM_PAIR),
    "dpo zephyr.nectar": (
        {"prompt": "Hi", "answers": [{"answer": "B", "rank": 2}, {"answer": "A", "rank": 1}]},
        PLAIN_PAIR,
    ),
    "dpo chat_template.default": ({"messages": [SYSTEM, HI], "chosen": A, "rejected": B}, SYSTEM_PAIR),
    "dpo chat_template.default, text": ({"messages": [HI], "chosen": "A", "rejected": "B"}, PAIR),
    "orpo chat_template.argilla": ({"prompt": "Hi", **BOTH}, PAIR),
    "kto chatml.argilla": (
        {"system": "S", "instruction": "Hi", "completion": "A", "label": False},
        {**BAD, "prompt": [SYSTEM, HI]},
    ),
    "kto chatml.argilla_chat": ({"chosen": [HI], "completion": [A], "label": False}, BAD),
    "kto llama3.argilla_chat": ({"completion": [HI, A], "label": False}, BAD),
    "kto chatml.intel": (
        {"system": "S", "question": "Hi", "completion": "A", "label": False},
        {**BAD, "prompt": [SYSTEM, HI]},
    ),
    "kto chatml.prompt_pairs": ({"prompt": "Hi", "completion": "A", "label": "False"}, {**PLAIN_GOOD, "label": False}),
    "sft chat_template": ({"messages": [SYSTEM, HI, A]}, {**GOOD, "prompt": [SYSTEM, HI]}),
    "sft chat_template, conversations": ({"conversations": [ASKED, ANSWERED]}, GOOD),
    "sft alpaca": ({"instruction": "Hi", "input": "", "output": "A"}, GOOD),
    "sft alpaca_w_system.load_open_orca": (
        {"system_prompt": "S", "question": "Hi", "response": "A"},
        {**GOOD, "prompt": [SYSTEM, HI]},
    ),
    "sft alpaca_chat.load_concise": ({"instruction": "Hi", "input": "", "response": "A"}, GOOD),
    "sft metharme": ({"prompt": "Hi", "generation": "A"}, PLAIN_GOOD),
    "sft completion": ({"text": "A"}, {"prompt": text(""), "completion": text("A")}),
}

SWIFT = {
    "messages": ({"messages": [HI, A]}, GOOD),
    "sharegpt": (
        {"system": "S", "conversation": [{"human": "Hi", "assistant": "A"}]},
        {**GOOD, "prompt": [SYSTEM, HI]},
    ),
    "alpaca": (
        {"system": "S", "instruction": "Add.", "input": "1, 2", "output": "A"},
        {"prompt": [SYSTEM, user("Add.\n1, 2")], "completion": [A]},
    ),
    "query-response": (
        {"system": "S", "query": "And?", "response": "A", "history": [["Hi", "Hello."]]},
        {"prompt": [SYSTEM, *TURNS], "completion": [A]},
    ),
    "query-response, alone": ({"query": "Hi", "response": "A"}, PLAIN_GOOD),
    "rlhf": ({"messages": [*TURNS, A], "rejected_response": "B"}, {**PAIR, "prompt": TURNS}),
    "rlhf, message": ({"messages": [HI, A], "rejected_response": B}, PAIR),
    "rlhf, query-response": ({"query": "Hi", "response": "A", "rejected_response": "B"}, PLAIN_PAIR),
    "rlhf, messages twice": ({"messages": [HI, A], "rejected_messages": [HI, B]}, PAIR),
    "kto": ({"messages": [HI, A], "label": False}, BAD),
    "loss of a message": (
        {"messages": [HI, {**A, "loss": True}, user("And?"), {**B, "loss": False}]},
        GOOD,
    ),
    "agent": (
        {"messages": [HI, {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'}]}
        | {"tools": '[{"name": "f"}]'},
        {"prompt": [HI], "completion": [CALL], "tools": [{"name": "f"}]},
    ),
    "agent, words and parallel calls": (
        {"messages": [HI, says("I look."), *2 * [{"role": "tool_call", "content": '{"name": "f", "arguments": {}}'}]]},
        {"prompt": [HI], "completion": [{**CALL, "content": "I look.", "tool_calls": 2 * CALL["tool_calls"]}]},
    ),
    "agent, rejected": (
        {"messages": [HI, says("I look."), {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'}]}
        | {"rejected_response": "B"},
        {**PAIR, "chosen": [{**CALL, "content": "I look."}]},
    ),
    "a weight within an exchange": (
        {"conversation": [{"human": "Hi", "assistant": "A"}, {"human": "And?", "assistant": "B", "loss_weight": 0}]},
        GOOD,
    ),
}

XTUNER = {
    "system": ({"conversation": [{"system": "S", "input": "Hi", "output": "A"}]}, {**GOOD, "prompt": [SYSTEM, HI]}),
    "system, in conversations": (
        {"conversations": [{"system": "S", "input": "Hi", "output": "A"}]},
        {**GOOD, "prompt": [SYSTEM, HI]},
    ),
    "loss": (
        {"conversation": [{"input": "Hi", "output": "A"}, {"input": "And?", "output": "B", "output_with_loss": False}]},
        GOOD,
    ),
}

LLAMA_FACTORY = {
    "alpaca sft": (
        {"instruction": "And?", "input": "", "output": "A", "system": "S", "history": [["Hi", "Hello."]]},
        {"prompt": [SYSTEM, *TURNS], "completion": [A]},
    ),
    "identity": (
        {"instruction": "hi", "input": "", "output": "I am {{name}}."},
        {"prompt": [user("hi")], "completion": [says("I am {{name}}.")]},
    ),
    "alpaca pre-training": ({"text": "A"}, {"prompt": text(""), "completion": text("A")}),
    "alpaca preference": ({"instruction": "Hi", "input": "", "chosen": "A", "rejected": "B"}, PAIR),
    "alpaca kto": ({"instruction": "Hi", "input": "", "output": "A", "kto_tag": False}, BAD),
    "sharegpt sft": (
        {"conversations": [ASKED, ANSWERED], "system": "S", "tools": "[]"},
        {**GOOD, "prompt": [SYSTEM, HI]},
    ),
    "sharegpt preference": ({"conversations": [ASKED], "chosen": ANSWERED, "rejected": WORSE}, PAIR),
    "sharegpt kto": ({"conversations": [ASKED, ANSWERED], "kto_tag": False}, BAD),
    "openai": ({"messages": [SYSTEM, HI, A]}, {**GOOD, "prompt": [SYSTEM, HI]}),
    "kto demo": ({"messages": [HI, A], "label": False}, BAD),
    "v1 sft": (
        {"messages": [part("user", "text", "Hi", 0.0), part("assistant", "text", "A", 1.0)]},
        GOOD,
    ),
    "v1 sft, the last turn not trained": (
        {
            "messages": [
                *(part("user", "text", "Hi", 0.0), part("assistant", "text", "A", 1.0)),
                *(part("user", "text", "And?", 0.0), part("assistant", "text", "B", 0.0)),
            ]
        },
        GOOD,
    ),
    "v1 tool call": (
        {"messages": [HI, part("assistant", "tool_call", '{"name": "f", "arguments": {}}', 1.0)], "tools": TOOLS},
        {"prompt": [HI], "completion": [CALL], "tools": TOOLS},
    ),
    "sharegpt function call": (
        {"conversations": [ASKED, {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}]},
        {"prompt": [HI], "completion": [CALL]},
    ),
    "v1 preference": ({"chosen_messages": [HI, A], "rejected_messages": [HI, B]}, PAIR),
}

OPENAI = {
    "chat": ({"messages": [SYSTEM, HI, A]}, {**GOOD, "prompt": [SYSTEM, HI]}),
    "chat, functions": (
        {"messages": [HI, {"role": "assistant", "function_call": {"name": "f", "arguments": {}}}]},
        {"prompt": [HI], "completion": [CALL]},
    ),
    "chat, weight": ({"messages": [HI, A, user("And?"), {**B, "weight": 0}]}, GOOD),
    "chat, tools": (
        {"messages": [HI, A], "tools": TOOLS, "parallel_tool_calls": False},
        {**GOOD, "tools": TOOLS},
    ),
    "preference": (
        {"input": {"messages": [HI]}, "preferred_output": [A], "non_preferred_output": [B]},
        PAIR,
    ),
    "preference, tools": (
        {"input": {"messages": [HI], "tools": TOOLS, "parallel_tool_calls": True}}
        | {"preferred_output": [A], "non_preferred_output": [B]},
        {**PAIR, "tools": TOOLS},
    ),
    "databricks-dolly": (
        {"instruction": "Add.", "context": "1, 2", "response": "A"},
        {"prompt": [user("Add.\n1, 2")], "completion": [A]},
    ),
    "completions": ({"prompt": "Hi", "completion": "A"}, PLAIN_GOOD),
}

TABLE = [
    pytest.param(*case, id=f"{whose} {name}")
    for whose, cases in {
        "axolotl": AXOLOTL,
        "swift": SWIFT,
        "xtuner": XTUNER,
        "factory": LLAMA_FACTORY,
        "openai": OPENAI,
    }.items()
    for name, case in cases.items()
]


SETTINGS = OmegaConf.create({"columns": None, "chat": False, "layout": None, "roles": None})


def read(row: Row) -> list[Row]:
    return list(recognise([row], SETTINGS, "rows.jsonl").rows(row))


@pytest.mark.parametrize(("row", "expected"), TABLE)
def test_documented_layout(row: Row, expected: Row) -> None:
    (found,) = read(row)
    assert found == expected


CALLS = {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"conversation": [{"human": "Hi", "assistant": "A", "thought": "t"}]},
            "conversation has a message with thought: write it as reasoning_content",
        ),
        (
            {"conversations": [{"input": "Hi", "output": "A", "label": False}]},
            "conversations has a message with label: a single message has none",
        ),
        (
            {"conversation": [{"human": "Hi", "assistant": "A", "tools": TOOLS}]},
            "conversation has a message with tools: make it the column tools",
        ),
        (
            {"input": {"messages": [HI], "system": "S"}, "preferred_output": [A], "non_preferred_output": [B]},
            "input has system: write it as the first turn of input.messages",
        ),
        (
            {"input": {"messages": [HI], "tool_choice": "none"}, "preferred_output": [A], "non_preferred_output": [B]},
            "input has tool_choice: no chat template reads it",
        ),
        (
            {"conversations": [ASKED, {"from": "function_call", "value": '{"name": "f", "parameters": {"x": 1}}'}]},
            "messages has a call with parameters and without arguments: write arguments",
        ),
        (
            {"conversations": [ASKED, {"from": "function_call", "value": "f(1)"}]},
            "conversations has a function_call that is not a call as JSON: write its name and arguments",
        ),
        (
            {"conversations": [ASKED, {**ANSWERED, "weight": 1}, {**CALLS, "weight": 0}]},
            "conversations has a call whose weight differs from that of the assistant's turn before it",
        ),
    ],
)
def test_what_a_layout_cannot_follow(row: Row, reason: str) -> None:
    with pytest.raises(BadRow) as raised:
        read(row)
    assert str(raised.value).startswith(reason)


def test_fields_of_exchanges_that_are_not_read_are_named() -> None:
    row = {"conversation": [{"human": "Hi", "assistant": "A", "source": "x", "note": None}]}
    layout = recognise([row], SETTINGS, "rows.jsonl")
    assert list(layout.rows(row)) == [GOOD]
    assert layout.unread.fields == {"source"}


@pytest.mark.parametrize("prompt", ["text", "messages", "implicit"])
@pytest.mark.parametrize("whole", [False, True])
def test_gold_repeats_its_prompt_or_does_not(prompt: str, whole: bool) -> None:
    """The two others hold the prompt; gold may begin with it as they do, or be an answer alone."""
    given = {"text": {"prompt": "Hi"}, "messages": {"prompt": [HI]}, "implicit": {}}[prompt]
    (found,) = read({**given, **BOTH, "gold": [HI, says("G")] if whole else [says("G")]})
    assert found == {**PAIR, "gold": [says("G")]}


def test_gold_that_begins_as_a_text_prompt_that_the_pair_does_not_repeat() -> None:
    (found,) = read({"prompt": "Hi", "chosen": "A", "rejected": "B", "gold": "Hi you"})
    assert found == {**PLAIN_PAIR, "gold": text("Hi you")}

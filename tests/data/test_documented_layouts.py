"""Every layout that the documentation of axolotl, ms-swift, LLaMA-Factory and OpenAI names is read as it means it."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

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
    for whose, cases in {"axolotl": AXOLOTL, "swift": SWIFT, "factory": LLAMA_FACTORY, "openai": OPENAI}.items()
    for name, case in cases.items()
]


def read(row: Row, **dataset: Any) -> list[Row]:
    settings = OmegaConf.create({"columns": None, "chat": False, "layout": None, "roles": None, **dataset})
    return list(recognise([row], settings, "rows.jsonl").rows(row))


@pytest.mark.parametrize(("row", "expected"), TABLE)
def test_documented_layout(row: Row, expected: Row) -> None:
    (found,) = read(row)
    assert found == expected

"""Reads one row of each known layout.

A reader turns a row into raw rows with the canonical names ``prompt``, ``chosen``, ``rejected``, ``completion``,
``label``, ``score`` or ``messages``: one, or one for each pair that the row holds. It raises :class:`BadRow` for a row
that is not what its layout says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from alignzoo.data.message_text import parse_messages
from alignzoo.data.messages import BadRow
from alignzoo.data.turns import split_exchanges

Row = Mapping[str, Any]
Reader = Callable[[Row], list[dict[str, Any]]]


def same(*names: str) -> Reader:
    """Return a reader of columns that have canonical names already."""
    return lambda row: [{name: row[name] for name in names if name in row}]


# --- TRL's own formats ---------------------------------------------------------------------------------------------


def asked(*names: str) -> Reader:
    """Return a reader of columns that have canonical names already; `history` stands before the prompt."""
    return lambda row: [_add_history({name: row[name] for name in names if name in row}, row)]


def pairs(row: Row) -> list[dict[str, Any]]:
    """Read chosen and rejected; a list of texts or of conversations as rejected gives one pair each."""
    rejected = row["rejected"]
    several = isinstance(rejected, list) and rejected and isinstance(rejected[0], str | list)
    prompt = _add_history({"prompt": row["prompt"]} if "prompt" in row else {}, row)
    return [{**prompt, "chosen": row["chosen"], "rejected": one} for one in (rejected if several else [rejected])]


def _add_history(raw: dict[str, Any], row: Row) -> dict[str, Any]:
    if not row.get("history"):
        return raw
    prompt, before = raw.get("prompt"), _read_history(row["history"])
    if not isinstance(prompt, str | list):
        raise BadRow("history stands beside no prompt")
    return {**raw, "prompt": [*before, *([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)]}


# --- A conversation so far, and answers to it (axolotl, ms-swift) --------------------------------------------------


def messages_pair(row: Row) -> list[dict[str, Any]]:
    """Axolotl: `messages` so far, and the turns `chosen` and `rejected` that go on from it."""
    messages = row["messages"]
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, Mapping) and last.get("role") == "assistant":
        if not _is_reply(last, row["chosen"]):
            raise BadRow(
                "messages ends with an assistant's turn that is not the chosen one. "
                "Where the answers go on from it: 'dataset.columns={messages: prompt}'"
            )
        messages = messages[:-1]
    return [{"prompt": messages, "chosen": row["chosen"], "rejected": row["rejected"]}]


def _is_reply(turn: Mapping[str, Any], answer: Any) -> bool:
    said = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    return bool(turn == said or turn.get("content") == said)


def swift_pair(row: Row) -> list[dict[str, Any]]:
    """ms-swift: `messages` with the good answer last, and `rejected_response` in its place."""
    messages = row["messages"]
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        raise BadRow("messages does not end with an assistant's turn")
    return [{"prompt": messages[:-1], "chosen": messages[-1:], "rejected": row["rejected_response"]}]


def chosen_marked(row: Row) -> list[dict[str, Any]]:
    """Axolotl's chat layout for KTO: the conversation so far is called `chosen`."""
    return [{"prompt": row["chosen"], "completion": row["completion"], "label": row["label"]}]


# --- HH-RLHF transcripts -------------------------------------------------------------------------------------------

_TURN = re.compile(r"\n\n(Human|Assistant):")


def transcript(text: Any, name: str) -> list[dict[str, str]]:
    """Split ``\\n\\nHuman: ... \\n\\nAssistant: ...`` into messages."""
    if not isinstance(text, str):
        raise BadRow(f"{name} is {'null' if text is None else type(text).__name__}; it must be a transcript")
    first, *rest = _TURN.split(text)
    if first.strip() or not rest:
        raise BadRow(f"{name} is not a transcript: it must start with a Human turn")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[who], "content": said.strip()} for who, said in zip(rest[::2], rest[1::2], strict=True)]


def hh(row: Row) -> list[dict[str, Any]]:
    """Anthropic's HH-RLHF: two transcripts that share their beginning."""
    return [{name: transcript(row[name], name) for name in ("chosen", "rejected")}]


def is_transcript(row: Row) -> bool:
    """Tell whether the answers are transcripts, `Human:` and `Assistant:` in turn."""
    return all(isinstance(row.get(name), str) and "\n\nHuman:" in row[name] for name in ("chosen", "rejected"))


# --- ShareGPT, in LLaMA-Factory's layouts ----------------------------------------------------------------------------


def sharegpt_pair(row: Row) -> list[dict[str, Any]]:
    """LLaMA-Factory's ShareGPT with `chosen` and `rejected` turns."""
    return [{"prompt": _read_conversation(row), "chosen": row["chosen"], "rejected": row["rejected"]}]


def sharegpt(row: Row) -> list[dict[str, Any]]:
    """ShareGPT: a conversation whose last turn is trained on."""
    return [{"messages": _read_conversation(row)}]


def exchanges(row: Row) -> list[dict[str, Any]]:
    """ms-swift's ShareGPT: `conversation`, a list of exchanges."""
    return [{"messages": _read_conversation(row, "conversation")}]


def marked(read: Reader) -> Reader:
    """Return a reader of what ``read`` reads with `label`, true for a good answer."""
    return lambda row: [{**raw, "label": row["label"]} for raw in read(row)]


def _read_conversation(row: Row, column: str = "conversations") -> list[dict[str, Any]]:
    return split_exchanges(parse_messages(row[column], column), column)


# --- Alpaca --------------------------------------------------------------------------------------------------------


def _read_instruction(row: Row) -> list[dict[str, str]]:
    """Return history and instruction (with its input below it) as messages."""
    said = row["instruction"]
    if not isinstance(said, str):
        raise BadRow(f"instruction is {'null' if said is None else type(said).__name__}")
    more = row.get("input")
    if more is not None and not isinstance(more, str):
        raise BadRow(f"input is {type(more).__name__}; it must be text")
    question = {"role": "user", "content": f"{said}\n{more}" if more else said}
    return [*_read_history(row.get("history")), question]


def _read_history(turns: Any) -> list[dict[str, str]]:
    """Read earlier turns, pairs of question and answer."""
    if turns is None:
        return []
    whole = isinstance(turns, list) and all(isinstance(turn, list) and len(turn) == 2 for turn in turns)
    if not whole or not all(isinstance(text, str) for turn in turns for text in turn):
        raise BadRow("history is not a list of [question, answer] pairs")
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def _read_reply(value: Any, name: str) -> list[dict[str, str]]:
    if not isinstance(value, str):
        raise BadRow(f"{name} is {'null' if value is None else type(value).__name__}; it must be text")
    return [{"role": "assistant", "content": value}]


def alpaca(row: Row) -> list[dict[str, Any]]:
    """Alpaca: `instruction`, `input`, `output`."""
    return [{"prompt": _read_instruction(row), "completion": _read_reply(row["output"], "output")}]


def alpaca_pair(row: Row) -> list[dict[str, Any]]:
    """Alpaca with `chosen` and `rejected` in place of `output`."""
    return [{"prompt": _read_instruction(row), "chosen": row["chosen"], "rejected": row["rejected"]}]


# --- OpenAI's preference fine-tuning -------------------------------------------------------------------------------


#: What `input` may hold and what is not followed -> what to do about it.
_REFUSED_BESIDE = {
    "system": "write it as the first turn of input.messages",
    "tool_choice": "no chat template reads it; leave it out, and the tools too where none is to be called",
}


def openai(row: Row) -> list[dict[str, Any]]:
    """OpenAI's preference fine-tuning: `input.messages`, `preferred_output`, `non_preferred_output`."""
    given = row["input"]
    messages = given.get("messages") if isinstance(given, Mapping) else None
    if not isinstance(messages, list):
        raise BadRow("input has no list of messages")
    for field, instead in _REFUSED_BESIDE.items():
        if given.get(field) not in (None, "", "auto"):
            raise BadRow(f"input has {field}: {instead}")
    tools = {"tools": given["tools"]} if given.get("tools") else {}
    return [{"prompt": messages, "chosen": row["preferred_output"], "rejected": row["non_preferred_output"], **tools}]

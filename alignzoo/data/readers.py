"""Reads one row of each known layout.

A reader turns a row into raw rows with the canonical names ``prompt``, ``chosen``, ``rejected``, ``completion``,
``label``, ``score`` or ``messages``: one, or one for each pair that the row holds. It raises :class:`BadRow` for a row
that is not what its layout says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from alignzoo.data.messages import BadRow, parse_messages, read_calls

Row = Mapping[str, Any]
Reader = Callable[[Row], list[dict[str, Any]]]


def same(*names: str) -> Reader:
    """Return a reader of columns that have canonical names already."""
    return lambda row: [{name: row[name] for name in names if name in row}]


# --- TRL's own formats ---------------------------------------------------------------------------------------------


def pairs(row: Row) -> list[dict[str, Any]]:
    """Read chosen and rejected; a list of texts or of conversations as rejected gives one pair each."""
    rejected = row["rejected"]
    several = isinstance(rejected, list) and rejected and isinstance(rejected[0], str | list)
    prompt = {"prompt": row["prompt"]} if "prompt" in row else {}
    return [{**prompt, "chosen": row["chosen"], "rejected": one} for one in (rejected if several else [rejected])]


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

_SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "bing": "assistant", "bard": "assistant", "system": "system", "observation": "tool", "tool": "tool",
    "function_call": "assistant", "function": "assistant",
}  # fmt: skip


def _read_turns(value: Any, name: str) -> list[dict[str, Any]]:
    """Read ``{"from", "value"}`` turns, or ``{"role", "content"}`` ones, as messages."""
    turns = parse_messages(value, name)
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise BadRow(f"{name} is {'null' if value is None else 'not a list of turns'}")
    return [_read_turn(turn, name) for turn in turns]


def _read_turn(turn: Mapping[str, Any], name: str) -> dict[str, Any]:
    speaker, said = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if speaker not in _SPEAKERS:
        raise BadRow(f"{name} has a turn from {speaker!r}; known are {', '.join(_SPEAKERS)}")
    if not isinstance(said, str | list) and not turn.get("tool_calls"):
        raise BadRow(f"{name} has a turn whose text is {'null' if said is None else type(said).__name__}")
    more = {field: value for field, value in turn.items() if field not in ("from", "role", "value", "content")}
    calls = read_calls(said) if speaker == "function_call" else []
    spoken = {"content": "", "tool_calls": calls} if calls else {"content": said}
    return {"role": _SPEAKERS[speaker], **spoken, **more}


def _read_system(row: Row) -> list[dict[str, str]]:
    return [{"role": "system", "content": str(row["system"])}] if row.get("system") else []


def _read_conversation(row: Row) -> list[dict[str, Any]]:
    return [*_read_system(row), *_read_turns(row["conversations"], "conversations")]


def sharegpt_pair(row: Row) -> list[dict[str, Any]]:
    """LLaMA-Factory's ShareGPT with `chosen` and `rejected` turns."""
    answers = {name: _read_turns(row[name], name) for name in ("chosen", "rejected")}
    return [{"prompt": _read_conversation(row), **answers}]


def sharegpt(row: Row) -> list[dict[str, Any]]:
    """ShareGPT: a conversation whose last turn is trained on."""
    return [{"messages": _read_conversation(row)}]


def sharegpt_kto(row: Row) -> list[dict[str, Any]]:
    """ShareGPT with `kto_tag`, true for a good last turn."""
    messages = _read_conversation(row)
    return [{"prompt": messages[:-1], "completion": messages[-1:], "label": row["kto_tag"]}]


# --- Alpaca --------------------------------------------------------------------------------------------------------


def _read_instruction(row: Row) -> list[dict[str, str]]:
    """Return system, history and instruction (with its input below it) as messages."""
    said = row["instruction"]
    if not isinstance(said, str):
        raise BadRow(f"instruction is {'null' if said is None else type(said).__name__}")
    more = row.get("input")
    if more is not None and not isinstance(more, str):
        raise BadRow(f"input is {type(more).__name__}; it must be text")
    return [
        *_read_system(row),
        *_read_history(row.get("history")),
        {"role": "user", "content": f"{said}\n{more}" if more else said},
    ]


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


def alpaca_kto(row: Row) -> list[dict[str, Any]]:
    """Alpaca with `kto_tag`, true for a good output."""
    return [{**alpaca(row)[0], "label": row["kto_tag"]}]


def alpaca_pair(row: Row) -> list[dict[str, Any]]:
    """Alpaca with `chosen` and `rejected` in place of `output`."""
    return [
        {"prompt": _read_instruction(row), **{name: _read_reply(row[name], name) for name in ("chosen", "rejected")}}
    ]


# --- OpenAI's preference fine-tuning -------------------------------------------------------------------------------


def openai(row: Row) -> list[dict[str, Any]]:
    """OpenAI's preference fine-tuning: `input.messages`, `preferred_output`, `non_preferred_output`."""
    asked = row["input"]
    messages = asked.get("messages") if isinstance(asked, Mapping) else None
    if not isinstance(messages, list):
        raise BadRow("input has no list of messages")
    tools = {"tools": asked["tools"]} if asked.get("tools") else {}
    return [{"prompt": messages, "chosen": row["preferred_output"], "rejected": row["non_preferred_output"], **tools}]

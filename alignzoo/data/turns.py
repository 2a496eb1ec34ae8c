"""Brings messages of other conventions to ``{"role", "content", ...}``: ShareGPT, ms-swift, LLaMA-Factory, OpenAI.

A list that needs no change is returned as it stands, after one look at each message.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from alignzoo.data.messages import ROLES, BadRow, read_calls, unread_fields

Roles = Mapping[str, str]

#: Who speaks, in other conventions -> the role.
SPEAKERS = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "observation": "tool", "tool_response": "tool", "function": "tool",
    "function_call": "assistant", "tool_call": "assistant",
}  # fmt: skip

CALLS = ("function_call", "tool_call")  #: speakers whose text is a call of a tool

#: Fields that change what is trained, and that alignzoo cannot follow -> what to write instead.
REFUSED = {
    **dict.fromkeys(("thought", "thoughts"), "write it as reasoning_content"),
    **dict.fromkeys(("loss_scale", "train_detail", "training_detail"), "write weight: 0 or 1 for the whole message"),
    **dict.fromkeys(("label", "score", "reward"), "a single message has none: put it beside the conversation"),
}


def tidy(value: Any, name: str, roles: Roles, unread: set[str]) -> Any:
    """Return the messages of the column ``name`` in our convention; whatever else it holds is returned as it is.

    Args:
        value: a message, a list of them, or anything.
        name: the column, for the error.
        roles: ``dataset.roles``, theirs -> ours.
        unread: takes the names of the fields that are not read.

    Raises:
        BadRow: an unknown role, or a field that changes what is trained and cannot be followed.
    """
    if type(value) is not list:
        return _tidy_message(value, name, roles, unread) if isinstance(value, Mapping) else value
    if not roles and _is_plain(value):
        return value
    if value and isinstance(value[0], list):  # several conversations
        return [tidy(one, name, roles, unread) for one in value]
    return [_tidy_message(one, name, roles, unread) if isinstance(one, Mapping) else one for one in value]


def _is_plain(messages: list[Any]) -> bool:
    """Tell whether each message has a role that we know, a text, and nothing else; most have, so this is quick."""
    try:
        for one in messages:
            if type(one) is not dict or len(one) != 2 or one.get("role") not in ROLES:
                return False
            if type(one.get("content")) is not str:
                return False
    except TypeError:  # a role that is a list
        return False
    return True


def _tidy_message(message: Mapping[str, Any], name: str, roles: Roles, unread: set[str]) -> dict[str, Any]:
    found = {field: value for field, value in message.items() if value is not None}
    speaker = found.pop("from", None) if "role" not in found else found.pop("role")
    if speaker is None:
        return {**message}
    text = "value" if "content" not in found and "value" in found else "content"
    content = found.pop(text, None)
    if content is None and "from" in message and "tool_calls" not in found:
        raise BadRow(f"{name} has a turn whose text is null")
    tidied = {"role": _read_role(speaker, name, roles), **({"content": content} if text in message else {})}
    if speaker in CALLS and speaker not in roles:
        calls = read_calls(content)
        tidied |= {"content": "", "tool_calls": calls} if calls else {}
    if isinstance(content, list):
        tidied |= _read_parts(content)
    tidied |= _read_fields(found, name)
    unread |= unread_fields(tidied)
    return tidied


def _read_role(speaker: Any, name: str, roles: Roles) -> str:
    role = roles.get(speaker) if isinstance(speaker, str) else None
    if role is None and isinstance(speaker, str):
        role = speaker if speaker in ROLES else SPEAKERS.get(speaker)
    if role is None:
        known = ", ".join([*sorted(ROLES), *sorted(SPEAKERS)])
        write = f"dataset.roles={{{speaker}: user}}, or assistant"
        raise BadRow(f"{name} has the role {speaker!r}; known are {known}. Map it: {write}")
    return role


def _read_fields(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the further fields, with other names for `weight` and for calls read."""
    fields: dict[str, Any] = {}
    for field, value in found.items():
        if field in REFUSED and value not in ("", [], {}):
            raise BadRow(f"{name} has a message with {field}: {REFUSED[field]}")
        if field == "loss_weight":
            fields["weight"] = value
        elif field == "function_call" and isinstance(value, Mapping):
            fields["tool_calls"] = [{"type": "function", "function": dict(value)}]
        else:
            fields[field] = value
    return fields


def _read_parts(parts: list[Any]) -> dict[str, Any]:
    """Read LLaMA-Factory v1's parts, whose text stands under `value`; others are returned as they are."""
    if not any(isinstance(part, Mapping) and isinstance(part.get("value"), str) for part in parts):
        return {}
    texts, fields = [], dict[str, Any]()
    for part in parts:
        kind, text = (part.get("type"), part.get("value")) if isinstance(part, Mapping) else (None, None)
        calls = read_calls(text) if kind == "tool_call" else []
        if calls:
            fields["tool_calls"] = [*fields.get("tool_calls", []), *calls]
        elif kind == "reasoning" and isinstance(text, str):
            fields["reasoning_content"] = fields.get("reasoning_content", "") + text
        else:
            texts.append({"type": kind, "text": text} if kind == "text" else part)
    return {"content": texts or "", **fields}


def split_exchanges(turns: Any, name: str) -> list[dict[str, Any]]:
    """Return the messages of ``[{"human", "assistant"}]`` (ms-swift) or ``[{"input", "output"}]`` (Capybara).

    Messages with roles are returned as they are.
    """
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise BadRow(f"{name} is {'null' if turns is None else 'not a list of turns'}")
    return [message for turn in turns for message in _split_exchange(turn)]


def _split_exchange(turn: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for asked, said in (("human", "assistant"), ("input", "output")):
        if asked in turn and said in turn:
            more = {field: value for field, value in turn.items() if field not in (asked, said) and value is not None}
            yield {"role": "user", "content": turn[asked]}
            yield {**more, "role": "assistant", "content": turn[said]}
            return
    yield dict(turn)

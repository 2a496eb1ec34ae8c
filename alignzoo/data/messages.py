"""Reads messages as a file holds them: content, tool calls, thoughts, and the other fields that chat templates read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]
Messages = list[Message]

ROLES = {"user", "assistant", "system", "tool", "developer"}

#: Fields that hold what the assistant thought before it spoke; ``transformers`` reads the first three as one.
THOUGHTS = ("reasoning_content", "thinking", "reasoning", "tool_plan")

#: Fields that chat templates read, beside role and content.
KEPT = (*THOUGHTS, "tool_calls", "tool_call_id", "name")

MEDIA = ("image", "images", "audio", "audios", "video", "videos")

TEXT_ONLY = "alignzoo trains on text only"

#: Fields that change what is said and that no template gets -> what to do about them.
_REFUSED = {
    **dict.fromkeys(MEDIA, TEXT_ONLY),
    "function_call": "write it as tool_calls",
    "refusal": "write it as content",
}

_TEXT_PARTS = ("text", "input_text", "output_text")

#: Other types of content parts -> what to do about them.
_OTHER_PARTS = {
    **dict.fromkeys(("thinking", "reasoning"), "write it as reasoning_content"),
    **dict.fromkeys(("tool_use", "tool_call"), "write it as tool_calls"),
    "tool_result": "write it as a turn of the role tool",
}


class BadRow(ValueError):
    """A row that cannot be trained on; the text says why."""


def read_messages(value: Any, name: str) -> Messages:
    """Return what ``parse_messages`` returned as messages; plain text is one message with the role ``text``.

    Raises:
        BadRow: a null, unknown roles, parts that are not text, or fields that cannot be trained on.
    """
    if value is None:
        raise BadRow(f"{name} is null")
    if isinstance(value, str):
        return make_text(check_encodable(value, name))
    if value == [] and name in ("chosen", "rejected", "completion"):
        raise BadRow(f"{name} is empty")
    if not isinstance(value, list):
        raise BadRow(f"{name} is {type(value).__name__}; it must be text or a list of messages")
    return [_read_message(message, name) for message in value]


def make_text(text: str) -> Messages:
    """Return plain text as a message of its own role."""
    return [{"role": "text", "content": text}]


def _read_message(message: Any, name: str) -> Message:
    if type(message) is dict and len(message) == 2:  # as nearly all are
        role, content = message.get("role"), message.get("content")
        if isinstance(content, str) and isinstance(role, str) and role in ROLES:
            return {"role": role, "content": check_encodable(content, name)}
    return _read_whole_message(message, name)


def _read_whole_message(message: Any, name: str) -> Message:
    if not isinstance(message, Mapping) or "role" not in message:
        raise BadRow(f"{name} holds a message without role and content")
    role, content = message["role"], message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRow(f"{name} has the role {role!r}; known are {', '.join(sorted(ROLES))}")
    more = _read_fields(message, name) if message.keys() != {"role", "content"} else {}
    if content is None and any(field in more for field in ("tool_calls", *THOUGHTS)):
        content = ""
    elif isinstance(content, list):
        content = _join_parts(content, name)
    if not isinstance(content, str):
        if "content" not in message:
            raise BadRow(f"{name} holds a message without role and content")
        raise BadRow(f"{name} has a message whose content is {'null' if content is None else 'not text'}")
    return {"role": role, "content": check_encodable(content, name), **more}


def _read_fields(message: Mapping[str, Any], name: str) -> Message:
    """Return the fields that templates read, as they stand, without those that are null."""
    for field, instead in _REFUSED.items():
        if message.get(field):
            raise BadRow(f"{name} has a message with {field}: {instead}")
    found = {field: message[field] for field in KEPT if message.get(field) is not None}
    for field, value in found.items():
        if field != "tool_calls" and not isinstance(value, str):
            raise BadRow(f"{name} has a message whose {field} is {type(value).__name__}; it must be text")
        check_encodable(value if isinstance(value, str) else write_json(value, f"{name}: {field}"), name)
    if "tool_calls" in found:
        calls = read_list(found.pop("tool_calls"), f"{name}: tool_calls")
        if any("parameters" in called and "arguments" not in called for called in map(unwrap, calls)):
            raise BadRow(f"{name} has a call with parameters and without arguments: write arguments")
        return {**found, "tool_calls": calls} if calls else found
    return found


def _join_parts(parts: list[Any], name: str) -> str:
    """Return the text of content that comes in parts."""
    texts = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, Mapping) else "text"
        text = part.get("text") if isinstance(part, Mapping) else part
        if kind not in _TEXT_PARTS:
            advice = _OTHER_PARTS.get(kind, TEXT_ONLY) if isinstance(kind, str) else TEXT_ONLY
            raise BadRow(f"{name} has a content part of type {kind!r}: {advice}")
        if not isinstance(text, str):
            raise BadRow(f"{name} has a content part whose text is {'null' if text is None else 'not text'}")
        texts.append(text)
    return "".join(texts)


def join_turns(prompt: Messages, answer: Messages) -> Messages:
    """Return prompt and answer as one conversation; the answer continues a turn that the prompt begins."""
    if not prompt[-1].get("prefix"):
        return [*prompt, *answer]
    begun, first = prompt[-1], answer[0]
    whole = {**begun, **first, "content": begun["content"] + first["content"]}
    return [*prompt[:-1], {field: value for field, value in whole.items() if field != "prefix"}, *answer[1:]]


def unwrap(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the function of a call or of a tool, which some files write without its `function`."""
    function = call.get("function")
    return function if isinstance(function, Mapping) else call


def read_list(value: Any, name: str) -> list[Any]:
    """Return a list of objects, which may come as JSON text, one object, or a list of JSON texts.

    Raises:
        BadRow: it is something else.
    """
    value = read_json(value, name)
    items = [value] if isinstance(value, Mapping) else value
    if not isinstance(items, list):
        raise BadRow(f"{name} is {type(value).__name__}; it must be a list of objects")
    items = [read_json(item, name) for item in items]
    if not all(isinstance(item, Mapping) for item in items):
        raise BadRow(f"{name} holds what is not an object")
    return items


def read_json(value: Any, name: str) -> Any:
    """Return what a text holds as JSON, an empty list for an empty text; other values are returned as they are.

    Raises:
        BadRow: the text is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return (json.loads(value) if value.strip() else None) or []
    except (ValueError, RecursionError):
        raise BadRow(f"{name} is text and not JSON") from None


def write_json(value: Any, name: str) -> str:
    """Return ``value`` as JSON.

    Raises:
        BadRow: JSON has no such value.
    """
    try:
        return check_encodable(json.dumps(value, ensure_ascii=False), name)
    except (TypeError, ValueError, RecursionError) as error:
        raise error if isinstance(error, BadRow) else BadRow(f"{name} is not JSON: {error}") from None


def check_encodable(text: str, name: str) -> str:
    """Return ``text``, unless it holds half a surrogate pair: JSON lets it through, and UTF-8 cannot write it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} holds half a surrogate pair, which is not a character") from None
    return text


def says_anything(message: Mapping[str, Any]) -> bool:
    """Tell whether a message has text or calls; a tool may return nothing."""
    return bool(message["content"].strip()) or "tool_calls" in message or message["role"] == "tool"

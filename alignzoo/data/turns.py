"""Brings messages of other conventions to ``{"role", "content", ...}``: ShareGPT, ms-swift, LLaMA-Factory, OpenAI.

A list that needs no change is returned as it stands, after one look at each message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from alignzoo.config.mapping_words import write_mapping
from alignzoo.data.messages import KEPT, MEDIA, ROLES, TEXT_ONLY, THOUGHTS, BadRow, read_list

Roles = Mapping[str, str]

#: Who speaks, in other conventions -> the role.
SPEAKERS = {
    "human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "observation": "tool", "tool_response": "tool", "function": "tool",
    "function_call": "assistant", "tool_call": "assistant",
}  # fmt: skip

CALLS = ("function_call", "tool_call")  #: speakers whose text is a call of a tool

#: Fields that say whether a turn is trained on: OpenAI's, ms-swift's, and axolotl's two.
WEIGHTS = ("weight", "loss", "train", "training")

_MASKS = ("loss_scale", "train_detail", "training_detail", "mask", "loss_mask", "trainable")

#: Fields that change what is trained, and that alignzoo cannot follow -> what to write instead.
REFUSED = {
    **dict.fromkeys(("thought", "thoughts", "think"), "write it as reasoning_content"),
    **dict.fromkeys(("reasoning_details", "thinking_blocks"), "write their text as reasoning_content"),
    **dict.fromkeys(_MASKS, "write weight: 0 or 1 for the whole message"),
    **dict.fromkeys(("label", "score", "reward"), "a single message has none: put it beside the conversation"),
    **dict.fromkeys(("tools", "functions"), "make it the column tools"),
    "function_calls": "write it as tool_calls",
    "system": "write it as a turn of its own, or make it the column system",
    "enable_thinking": "write the column chat_template_kwargs: {enable_thinking: true}, or false",
    **dict.fromkeys(("image_url", "input_audio"), TEXT_ONLY),
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
    tidied: list[Any] = []
    for one in value:
        message = _tidy_message(one, name, roles, unread) if isinstance(one, Mapping) else one
        if tidied and _is_call(one, roles) and isinstance(tidied[-1], dict) and tidied[-1].get("role") == "assistant":
            tidied[-1] = _add_calls(tidied[-1], message, name)
        else:
            tidied.append(message)
    return tidied


def _is_call(turn: Any, roles: Roles) -> bool:
    """Tell whether a turn, as the file holds it, is nothing but calls: ms-swift's `tool_call` and its likes."""
    speaker = (turn.get("role") or turn.get("from")) if isinstance(turn, Mapping) else None
    return speaker in CALLS and speaker not in roles


def _add_calls(turn: dict[str, Any], called: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the assistant's turn with the calls behind it: ms-swift makes one turn of words and parallel calls."""
    for field in (*WEIGHTS, *THOUGHTS):
        if turn.get(field) != called.get(field) and (field in WEIGHTS or field in called):
            raise BadRow(f"{name} has a call whose {field} differs from that of the assistant's turn before it")
    calls = [*read_list(turn.get("tool_calls") or [], f"{name}: tool_calls"), *called["tool_calls"]]
    return {**called, **turn, "content": turn.get("content") or "", "tool_calls": calls}


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
        tidied |= {"content": "", "tool_calls": _read_calls(content)}
        if not tidied["tool_calls"]:
            raise BadRow(f"{name} has a {speaker} that is not a call as JSON: write its name and arguments")
    if isinstance(content, list):
        for part in content:
            _check_part(part, name, unread)
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
        write = f"{write_mapping('dataset.roles', {str(speaker): 'user'})}, or assistant"
        raise BadRow(f"{name} has the role {speaker!r}; known are {known}. Map it: {write}")
    return role


def _read_fields(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the further fields, with other names for `weight` and for calls read."""
    fields: dict[str, Any] = {}
    for field, value in found.items():
        if field in REFUSED and value not in ("", [], {}):
            raise BadRow(f"{name} has a message with {field}: {REFUSED[field]}")
        if field in ("loss_weight", "output_with_loss"):
            fields["weight"] = value
        elif field == "function_call" and isinstance(value, Mapping):
            fields["tool_calls"] = [{"type": "function", "function": dict(value)}]
        else:
            fields[field] = value
    return fields


def _check_part(part: Any, name: str, unread: set[str]) -> None:
    """Refuse a text part with media beside the text, or with a weight of its own; name its other fields."""
    if not isinstance(part, Mapping):
        return
    for field in ("image_url", "input_audio", *MEDIA):
        if part.get(field) and part.get("type", "text") not in (field, f"input_{field}"):
            raise BadRow(f"{name} has a content part with {field}: {TEXT_ONLY}")
    for field in ("loss_weight", *WEIGHTS):
        if part.get(field) not in (None, 1):
            raise BadRow(f"{name} has a content part with {field}: write it for the whole message")
    further = part.keys() - {"type", "text", "value", "loss_weight", *WEIGHTS}
    unread |= {f"content.{field}" for field in further if part[field] is not None}


def _read_parts(parts: list[Any]) -> dict[str, Any]:
    """Read LLaMA-Factory v1's parts, whose text stands under `value`; others are returned as they are."""
    if not any(isinstance(part, Mapping) and isinstance(part.get("value"), str) for part in parts):
        return {}
    texts, fields = [], dict[str, Any]()
    for part in parts:
        kind, text = (part.get("type"), part.get("value")) if isinstance(part, Mapping) else (None, None)
        calls = _read_calls(text) if kind == "tool_call" else []
        if calls:
            fields["tool_calls"] = [*fields.get("tool_calls", []), *calls]
        elif kind == "reasoning" and isinstance(text, str):
            fields["reasoning_content"] = fields.get("reasoning_content", "") + text
        else:
            renamed = {"value": "text"} if kind == "text" else {}
            texts.append({renamed.get(field, field): held for field, held in part.items()} if renamed else part)
    return {"content": texts or "", **fields}


def _read_calls(text: Any) -> list[dict[str, Any]]:
    """Return the calls that a turn of ShareGPT's `function_call` writes as JSON; none where it is other text."""
    try:
        calls = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return []
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return []
    return [{"type": "function", "function": call} for call in calls]


def is_trained(message: Mapping[str, Any]) -> bool:
    """Tell whether a turn of the assistant, as the file holds it, is trained on: ``weight`` 0 says that it is not.

    Raises:
        BadRow: a weight that is neither 0 nor 1.
    """
    if len(message) == 2:
        return True
    found = {field: message[field] for field in WEIGHTS if message.get(field) is not None}
    for field, value in found.items():
        if not isinstance(value, int | float) or value not in (0, 1):
            raise BadRow(f"a message has {field} {value!r}; it must be 0 or 1")
    return all(found.values())


def unread_fields(message: Mapping[str, Any]) -> set[str]:
    """Return the fields of a message, as the file holds it, that hold something and are not read."""
    return {str(field) for field, value in message.items() if value is not None} - {"role", "content", *KEPT, *WEIGHTS}


def split_exchanges(turns: Any, name: str) -> list[dict[str, Any]]:
    """Return the messages of ``[{"human", "assistant"}]`` (ms-swift) or ``[{"input", "output"}]`` (Capybara, XTuner).

    The answer has the further fields of its exchange, for :func:`tidy`; its `system` (XTuner) is a turn before it.
    Messages with roles are returned as they are.
    """
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise BadRow(f"{name} is {'null' if turns is None else 'not a list of turns'}")
    return [message for turn in turns for message in _split_exchange(turn)]


def _split_exchange(turn: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for asked, said in (("human", "assistant"), ("input", "output")):
        if asked in turn and said in turn:
            more = {field: value for field, value in turn.items() if field not in (asked, said, "system")}
            if turn.get("system"):
                yield {"role": "system", "content": turn["system"]}
            yield {"role": "user", "content": turn[asked]}
            yield {**more, "role": "assistant", "content": turn[said]}
            return
    yield dict(turn)

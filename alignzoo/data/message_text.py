"""Finds the messages that a column holds: in a list, in an object around it, or as JSON text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from alignzoo.data.messages import ROLES, BadRow

#: Objects may hold their messages under these names.
_WRAPPERS = ("messages", "conversations", "conversation")

_OPENS = re.compile(r'\s*(?:"\s*)?(?:\[\s*)?\{')  # an object, or a list of them, perhaps encoded twice
_SPEAKS = re.compile(r"""["'](?:role|from)\\*["']\s*:""")

#: Text that was meant to be a list of messages, whether or not it is JSON.
_MEANT = re.compile(
    rf"""\s*(\{{\s*["']({"|".join(_WRAPPERS)})["']\s*:\s*)?\[\s*\{{"""
    rf"""(\s*["'](role|content|from|value)["']\s*:"""
    rf"""|[^{{}}]*["'](role|from)["']\s*:\s*["']({"|".join(sorted(ROLES))}|human|gpt)["'])"""
)


def parse_messages(value: Any, name: str) -> Any:
    """Return ``value``, or the messages that it holds as JSON text; ``{"messages": [...]}`` and one message as a list.

    A list of objects that all have a speaker and say something is messages, whoever speaks: an unknown role is then
    refused. One object alone is, if its role is known: a model may be asked to write others.

    Raises:
        BadRow: a text that begins as messages do and is not JSON, or fields beside ``messages`` that would be lost.
    """
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return _parse_text(value, name)
    if not isinstance(value, Mapping):
        return value
    wrapper = _find_wrapper(value)
    if wrapper is None:
        return [value]
    if more := sorted(str(field) for field, held in value.items() if field != wrapper and held is not None):
        raise BadRow(f"{name} holds {', '.join(more)} beside its messages: make it a column")
    return value[wrapper]


def _parse_text(text: str, name: str) -> Any:
    if text[:1] not in '"[{ \n\t' or not _OPENS.match(text) or not _SPEAKS.search(text):
        return text
    try:
        parsed = json.loads(text)
        parsed = json.loads(parsed) if isinstance(parsed, str) else parsed
    except (ValueError, RecursionError):
        if _MEANT.match(text):
            raise BadRow(f"{name} looks like a list of messages and is not JSON") from None
        return text
    return parse_messages(parsed, name) if _holds_messages(parsed) else text


def _find_wrapper(value: Mapping[str, Any]) -> str | None:
    return next((name for name in _WRAPPERS if isinstance(value.get(name), list)), None)


def _holds_messages(value: Any) -> bool:
    if isinstance(value, Mapping):
        wrapper = _find_wrapper(value)
        return _is_message(value) if wrapper is None else _holds_messages(value[wrapper])
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) and _says(item) for item in value)


def _says(item: Mapping[str, Any]) -> bool:
    speaker = item["role"] if item.get("role") is not None else item.get("from")
    return isinstance(speaker, str) and not item.keys().isdisjoint(("content", "value", "tool_calls"))


def _is_message(item: Mapping[str, Any]) -> bool:
    """Tell a message from another object that happens to have a role, as a model may be asked to write one."""
    spoken = item.get("role") in ROLES if isinstance(item.get("role"), str) else False
    return (spoken and ("content" in item or "tool_calls" in item)) or item.keys() >= {"from", "value"}

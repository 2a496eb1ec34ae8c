"""Puts marks in place of what stands in tool calls, so that a template's text shows what it leaves out of them.

A mark occurs nowhere else, so a tool of the same name, or a word that is an argument too, cannot hide what is lost.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from alignzoo.data.messages import Messages, unwrap

_INLINE = re.compile(r"<think>.*?</think>", re.DOTALL)


class Marks:
    """Messages with marks in them, and what each mark stands for."""

    def __init__(self, messages: Messages) -> None:
        self._numbers = itertools.count(73_105_001)
        self.names: list[str] = []
        self.arguments: list[str] = []
        self.quoted: list[str] = []
        """How arguments that are JSON text stand where they are quoted."""

        self.words: list[str] = []
        """What stands for the words beside calls."""

        self.messages = [self._mark(message) if "tool_calls" in message else message for message in messages]

    def _mark(self, message: Mapping[str, Any]) -> dict[str, Any]:
        marked = {**message, "tool_calls": [self._mark_call(call) for call in message["tool_calls"]]}
        if _INLINE.sub("", message["content"]).strip():
            marked["content"] = self._add(self.words)
        return marked

    def _mark_call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        called = unwrap(call)
        marked = {**called}
        if called.get("name"):
            marked["name"] = self._add(self.names)
        if "arguments" in called:
            marked["arguments"] = self._mark_arguments(called["arguments"])
        return marked if called is call else {**call, "function": marked}

    def _mark_arguments(self, value: Any) -> Any:
        if not isinstance(value, str) or value.lstrip()[:1] != "{":
            return self._mark_value(value)
        text = json.dumps({"argument": self._add(self.arguments)})
        self.quoted.append(json.dumps(text))
        return text

    def _mark_value(self, value: Any) -> Any:
        """Return the value with a mark of its type for each text and number in it; others are left as they are."""
        if isinstance(value, Mapping):
            return {name: self._mark_value(held) for name, held in value.items()}
        if isinstance(value, list):
            return [self._mark_value(held) for held in value]
        if isinstance(value, str) and value.strip():
            return self._add(self.arguments)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return type(value)(self._add(self.arguments, ""))
        return value

    def _add(self, marks: list[str], before: str = "mark") -> str:
        marks.append(f"{before}{next(self._numbers)}")
        return marks[-1]


def find_lost(marks: Marks, text: str, words: bool = False) -> Iterator[str]:
    """Yield what the template leaves out of the marked messages in its ``text``; words beside calls if asked."""
    if any(mark not in text for mark in marks.names):
        yield "the model's chat template leaves out tool_calls"
    if any(mark in text for mark in marks.quoted):
        yield "the chat template quotes a call's arguments, which are JSON text: write an object"
    if any(mark not in text for mark in marks.arguments):
        yield "the model's chat template leaves out arguments of tool_calls"
    if words and any(mark not in text for mark in marks.words):
        yield "the model's chat template leaves out the words beside tool_calls"

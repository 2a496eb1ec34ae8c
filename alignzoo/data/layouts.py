"""Recognises how a dataset lays out its rows, and brings each row into one canonical shape.

A canonical row has a ``prompt`` and, by kind, ``chosen`` and ``rejected``, or ``completion`` and perhaps ``label``.
Each text is a list of messages ``{"role", "content"}``; plain text is one message with the role ``text``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alignzoo.errors import UserError, did_you_mean
from alignzoo.method import DataFormat

Messages = list[dict[str, str]]

ROLES = {"user", "assistant", "system", "tool", "developer"}


class BadRow(ValueError):
    """A row that cannot be trained on; the text says why."""


@dataclass(frozen=True)
class Layout:
    """How this dataset's columns become canonical rows."""

    kind: DataFormat
    columns: Mapping[str, str]
    """Canonical column -> the dataset's own."""

    extras: Mapping[str, str]
    """The further columns, for rewards to read: name -> the dataset's own."""

    chat: bool = False
    """Whether plain text becomes a conversation of user and assistant."""

    def canonical(self, row: Mapping[str, Any]) -> dict[str, Messages | bool]:
        """Return the row in canonical shape.

        Raises:
            BadRow: a null, an empty text, two equal answers, a label that is no label, unknown roles.
        """
        values = {ours: row.get(theirs) for ours, theirs in self.columns.items()}
        texts = {name: _messages(value, name) for name, value in values.items() if name != "label"}
        if "messages" in texts:
            texts["prompt"], texts["completion"] = _split_last_answer(texts.pop("messages"))
        if "text" in texts:
            texts |= {"prompt": _text(""), "completion": texts.pop("text")}
        shaped = _with_prompt(texts, self.chat)
        _refuse_empty(shaped)
        if self.kind is DataFormat.PREFERENCE and shaped["chosen"] == shaped["rejected"]:
            raise BadRow("chosen equals rejected")
        return {**shaped, **({"label": _label(values["label"])} if "label" in values else {})}


def recognise(columns: set[str], mapping: Mapping[str, str], chat: bool, place: str) -> Layout:
    """Return the layout that the columns show; ``mapping`` and ``chat`` are ``dataset.columns`` and ``dataset.chat``.

    Raises:
        UserError: a mapped column is not there, or the columns show no layout.
    """
    for theirs in mapping:
        if theirs not in columns:
            known = ", ".join(sorted(columns))
            raise UserError(
                f"dataset.columns: {place} has no column {theirs!r}.{did_you_mean(theirs, columns)}\nIt has: {known}."
            )
    names = {ours: theirs for theirs, ours in mapping.items()}
    names |= {c: c for c in columns if c not in mapping and c not in names}
    for kind, needed, optional in _SHAPES:
        if needed <= names.keys():
            used = needed | (optional & names.keys())
            extras = {name: theirs for name, theirs in names.items() if name not in used and name != "id"}
            return Layout(kind, {name: names[name] for name in sorted(used)}, extras, chat)
    raise UserError(
        f"{place} has the columns {', '.join(sorted(columns))}: no preference, answer or prompt among them.\n"
        "Map yours, e.g. 'dataset.columns={question: prompt, good: chosen, bad: rejected}'."
    )


_SHAPES = (
    (DataFormat.PREFERENCE, {"chosen", "rejected"}, {"prompt"}),
    (DataFormat.UNPAIRED, {"completion", "label"}, {"prompt"}),
    (DataFormat.SUPERVISED, {"prompt", "completion"}, set[str]()),
    (DataFormat.SUPERVISED, {"messages"}, set[str]()),
    (DataFormat.PROMPTS, {"prompt"}, set[str]()),
    (DataFormat.SUPERVISED, {"text"}, set[str]()),
)


def _text(text: str) -> Messages:
    return [{"role": "text", "content": text}]


def _messages(value: Any, name: str) -> Messages:
    if value is None:
        raise BadRow(f"{name} is null")
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise BadRow(f"{name} is {type(value).__name__}; it must be text or a list of messages")
    return [_message(message, name) for message in value]


def _message(message: Any, name: str) -> dict[str, str]:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise BadRow(f"{name} holds a message without role and content")
    if message["role"] not in ROLES:
        raise BadRow(f"{name} has the role {message['role']!r}; known are {', '.join(sorted(ROLES))}")
    if not isinstance(message["content"], str):
        raise BadRow(f"{name} has a message whose content is {'null' if message['content'] is None else 'no text'}")
    return {"role": message["role"], "content": message["content"]}


def _label(value: Any) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise BadRow(f"label is {value!r}; it must be true or false")


def _with_prompt(texts: dict[str, Messages], chat: bool) -> dict[str, Messages]:
    """Take an implicit prompt out of the answers, or a repeated explicit one."""
    answers = {name: text for name, text in texts.items() if name != "prompt"}
    prompt = texts.get("prompt")
    if prompt is None:
        prompt = _common_start(*answers.values())
    conversational = {message["role"] != "text" for text in (prompt, *answers.values()) for message in text}
    if chat or conversational == {True, False}:  # asked for, or text beside messages
        prompt = _as_messages(prompt, "user")
        answers = {name: _as_messages(text, "assistant") for name, text in answers.items()}
    return {"prompt": prompt, **{name: _without(text, prompt) for name, text in answers.items()}}


def _as_messages(text: Messages, role: str) -> Messages:
    return [{**message, "role": role if message["role"] == "text" else message["role"]} for message in text]


def _common_start(*answers: Messages) -> Messages:
    """Return the messages, or the text up to a word's end, with which all the answers begin."""
    first = answers[0]
    if len(answers) == 1:
        return _split_last_answer(first)[0]
    if first and first[0]["role"] == "text":
        return _text(_common_text([answer[0]["content"] for answer in answers]))
    same = itertools.takewhile(lambda turns: all(t == turns[0] for t in turns), zip(*answers, strict=False))
    return [turns[0] for turns in same]


def _common_text(texts: list[str]) -> str:
    """As TRL's ``extract_prompt``: the common start, less a word that the texts end differently."""
    start = os.path.commonprefix(texts)  # noqa: RUF071 (characters are what is meant)
    marker = start.rfind("\n\nAssistant:")
    if marker >= 0:
        return start[: marker + len("\n\nAssistant:")]
    return start[: start.rfind(" ") + 1].rstrip(" ")


def _without(answer: Messages, prompt: Messages) -> Messages:
    """Return the answer without the prompt, if it begins with it."""
    if answer[: len(prompt)] == prompt and len(answer) > len(prompt):
        return answer[len(prompt) :]
    if answer and prompt and answer[0]["role"] == "text" and prompt[0]["role"] == "text":
        return _text(answer[0]["content"].removeprefix(prompt[0]["content"]))
    return answer


def _split_last_answer(messages: Messages) -> tuple[Messages, Messages]:
    """Split a conversation before its last assistant turn."""
    if not messages or messages[-1]["role"] != "assistant":
        raise BadRow("the conversation does not end with an assistant's turn")
    return messages[:-1], messages[-1:]


def _refuse_empty(texts: Mapping[str, Messages]) -> None:
    for name, messages in texts.items():
        empty = not messages or not messages[-1]["content"].strip()
        if empty and not (name == "prompt" and messages and messages[0]["role"] == "text" and "completion" in texts):
            raise BadRow(f"{name} is empty")
        if name not in ("prompt", "label") and messages[-1]["role"] not in ("assistant", "text"):
            raise BadRow(f"{name} ends with the role {messages[-1]['role']!r}; it must end with the assistant's turn")

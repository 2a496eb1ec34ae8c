"""Brings rows into canonical shape: ``prompt``, with ``chosen`` and ``rejected`` or with a ``completion``.

A completion may have a ``label`` or a ``score``, a pair a ``margin`` and a third answer, ``gold``.
Each text is a list of messages ``{"role", "content"}``; plain text
is one message with the role ``text``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

Messages = list[dict[str, str]]

NUMBERS = ("label", "score", "margin")  #: what a row holds that is no text

ROLES = {"user", "assistant", "system", "tool", "developer"}


class BadRow(ValueError):
    """A row that cannot be trained on; the text says why."""


def canonical(raw: Mapping[str, Any], chat: bool) -> dict[str, Any]:
    """Return ``raw``, which has canonical names, in canonical shape; ``chat`` makes conversations of plain text.

    Raises:
        BadRow: a null, an empty text, two equal answers, a label that is neither true nor false, unknown roles.
    """
    texts = {name: _read_messages(value, name) for name, value in raw.items() if name not in NUMBERS}
    if "messages" in texts:
        texts["prompt"], texts["completion"] = _split_last_answer(texts.pop("messages"))
    if "text" in texts:
        texts |= {"prompt": _text(""), "completion": texts.pop("text")}
    shaped: dict[str, Any] = _separate_prompt(texts, chat)
    _refuse_empty(shaped)
    if "chosen" in shaped and shaped["chosen"] == shaped["rejected"]:
        raise BadRow("chosen equals rejected")
    if "label" in raw:
        shaped["label"] = _read_label(raw["label"])
    return shaped | {name: raw[name] for name in ("score", "margin") if name in raw}


def _text(text: str) -> Messages:
    return [{"role": "text", "content": text}]


def _read_messages(value: Any, name: str) -> Messages:
    if value is None:
        raise BadRow(f"{name} is null")
    if isinstance(value, str):
        return _text(check_encodable(value, name))
    if isinstance(value, Mapping):
        value = [value]
    if value == [] and name in ("chosen", "rejected", "completion"):
        raise BadRow(f"{name} is empty")
    if not isinstance(value, list):
        raise BadRow(f"{name} is {type(value).__name__}; it must be text or a list of messages")
    return [_read_message(message, name) for message in value]


def _read_message(message: Any, name: str) -> dict[str, str]:
    if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
        raise BadRow(f"{name} holds a message without role and content")
    if not isinstance(message["role"], str) or message["role"] not in ROLES:
        raise BadRow(f"{name} has the role {message['role']!r}; known are {', '.join(sorted(ROLES))}")
    if not isinstance(message["content"], str):
        raise BadRow(f"{name} has a message whose content is {'null' if message['content'] is None else 'not text'}")
    return {"role": message["role"], "content": check_encodable(message["content"], name)}


def check_encodable(text: str, name: str) -> str:
    """Return ``text``, unless it holds half a surrogate pair: JSON lets it through, and UTF-8 cannot write it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} holds half a surrogate pair, which is not a character") from None
    return text


def _read_label(value: Any) -> bool:
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise BadRow(f"label is {'null' if value is None else repr(value)}; it must be true or false")


def _separate_prompt(texts: dict[str, Messages], chat: bool) -> dict[str, Messages]:
    """Take an implicit prompt out of the answers, or a repeated explicit one."""
    answers = {name: text for name, text in texts.items() if name != "prompt"}
    prompt = texts.get("prompt")
    if prompt is None:
        prompt = _find_common_start(*answers.values())
    if _mixes_text_and_messages(prompt, *answers.values()):
        prompt, answers = _as_conversation(prompt, answers)
    answers = _strip_prompt(answers, prompt)
    if chat:
        prompt, answers = _as_conversation(prompt, answers)
    return {"prompt": prompt, **answers}


def _mixes_text_and_messages(*texts: Messages) -> bool:
    return {message["role"] != "text" for text in texts for message in text} == {True, False}


def _as_conversation(prompt: Messages, answers: dict[str, Messages]) -> tuple[Messages, dict[str, Messages]]:
    """Make turns of user and assistant out of what is plain text."""
    return _as_role(prompt, "user"), {name: _as_role(text, "assistant") for name, text in answers.items()}


def _as_role(text: Messages, role: str) -> Messages:
    return [{**message, "role": role if message["role"] == "text" else message["role"]} for message in text]


def _find_common_start(*answers: Messages) -> Messages:
    """Return the messages, or the text up to a word's end, with which all the answers begin."""
    first = answers[0]
    if len(answers) == 1:
        if first and first[0]["role"] == "text":
            raise BadRow("there is no prompt, and a single plain text does not show where one ends")
        return _split_last_answer(first)[0]
    if first and first[0]["role"] == "text":
        return _text(_find_common_text([answer[0]["content"] for answer in answers]))
    shortest = min(map(len, answers)) - 1  # at least the last turn is the answer
    turns = itertools.takewhile(lambda turns: all(t == turns[0] for t in turns), zip(*answers, strict=False))
    return [same[0] for same in itertools.islice(turns, shortest)]


def _find_common_text(texts: list[str]) -> str:
    """As TRL's ``extract_prompt``: the common start, less a word that the texts end differently."""
    start = os.path.commonprefix(texts)  # noqa: RUF071 (characters are what is meant)
    marker = start.rfind("\n\nAssistant:")
    if marker >= 0:
        return start[: marker + len("\n\nAssistant:")]
    return start[: start.rfind(" ") + 1].rstrip(" ")


def _strip_prompt(answers: dict[str, Messages], prompt: Messages) -> dict[str, Messages]:
    """Return the answers without the prompt, if all of them begin with it; one alone may do so by chance."""
    count = len(prompt)
    if all(answer[:count] == prompt and len(answer) > count for answer in answers.values()):
        return {name: answer[count:] for name, answer in answers.items()}
    texts = [text for text in (prompt, *answers.values()) if text and text[0]["role"] == "text"]
    start = prompt[0]["content"] if prompt else ""
    if len(texts) == len(answers) + 1 and start and all(a[0]["content"].startswith(start) for a in answers.values()):
        return {name: _text(answer[0]["content"].removeprefix(start)) for name, answer in answers.items()}
    return answers


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
        if name == "prompt":
            continue
        if messages[-1]["role"] not in ("assistant", "text"):
            raise BadRow(f"{name} ends with the role {messages[-1]['role']!r}; it must end with the assistant's turn")
        if any(message["role"] in ("user", "system", "developer") for message in messages):
            raise BadRow(f"{name} is a conversation that does not begin with its prompt")

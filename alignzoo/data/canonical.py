"""Brings rows into canonical shape: ``prompt``, with ``chosen`` and ``rejected`` or with a ``completion``.

A completion may have a ``label`` or a ``score``, a pair a ``margin`` and a third answer, ``gold``. Each text is a list
of messages ``{"role", "content"}``, with the further fields that chat templates read; plain text is one message with
the role ``text``. A turn of the assistant that the prompt begins, and that answers continue, has ``prefix``. ``tools``
and ``template_kwargs`` stand beside the texts where the row has them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

from alignzoo.config.mapping_words import write_mapping
from alignzoo.data.message_text import parse_messages
from alignzoo.data.messages import (
    BadRow,
    Messages,
    check_encodable,
    make_text,
    read_messages,
    says_anything,
)
from alignzoo.data.template_inputs import TEMPLATE_COLUMNS, read_template_inputs
from alignzoo.data.turns import is_trained

_NOT_TEXTS = {"label", "score", "margin", *TEMPLATE_COLUMNS}

_LABELS = {"true": 1, "false": 0, **{f"{number}{end}": number for number in (1, 0, -1) for end in ("", ".0")}}

_LONG = 20  #: characters of a text with which two answers do not begin by chance

_NOT_ANSWERING = {"user", "system", "developer"}  #: roles that no answer holds


def canonical(raw: Mapping[str, Any], chat: bool) -> dict[str, Any]:
    """Return ``raw``, which has canonical names, in canonical shape; ``chat`` makes conversations of plain text.

    Raises:
        BadRow: a null, an empty text, two equal answers, a label that is neither true nor false, unknown roles,
            histories that differ, or what cannot be trained on.
    """
    given: dict[str, Any] = {}  # lists of messages as the file holds them
    texts: dict[str, Messages] = {}
    for name, value in raw.items():
        if name not in _NOT_TEXTS:
            parsed = parse_messages(value, name)
            texts[name] = read_messages(parsed, name)
            if isinstance(parsed, list):
                given[name] = parsed
    if texts.get("prompt", [])[-1:] == [{"role": "assistant", "content": ""}]:  # nothing is begun
        texts["prompt"].pop()
    if "messages" in texts:
        texts["prompt"], texts["completion"] = _split_last_answer(texts.pop("messages"), given.get("messages", ()))
    if "text" in texts:
        texts |= {"prompt": make_text(""), "completion": texts.pop("text")}
    shaped: dict[str, Any] = _separate_prompt(texts, chat)
    _refuse_empty(shaped)
    if given:
        _refuse_untrained(shaped, given)
    if "chosen" in shaped and shaped["chosen"] == shaped["rejected"]:
        raise BadRow("chosen equals rejected")
    if shaped["prompt"][-1]["role"] == "assistant" and "prompt" in given:
        shaped["prompt"] = _mark_continued(shaped, texts)
    if not TEMPLATE_COLUMNS.isdisjoint(raw):
        shaped |= read_template_inputs(raw, shaped["prompt"])
    if "label" in raw:
        shaped["label"] = _read_label(raw["label"])
    return shaped | {name: raw[name] for name in ("score", "margin") if name in raw}


def add_system(row: Mapping[str, Any], system: Any, name: str) -> dict[str, Any]:
    """Return a canonical row with the system prompt, of the column ``name``, as the first turn of its prompt.

    Raises:
        BadRow: it is not text, or the prompt is not a conversation, or has another system turn.
    """
    prompt = row["prompt"]
    if not isinstance(system, str):
        raise BadRow(f"{name} is {type(system).__name__}; it must be text")
    if not system.strip():
        return {**row}
    if prompt[0]["role"] == "text":
        without = write_mapping("dataset.columns", {name: None})
        raise BadRow(f"{name} needs a conversation, and this is text; {without} leaves it out")
    if prompt[0]["role"] in ("system", "developer"):
        if prompt[0]["content"] != system:
            raise BadRow(f"{name} differs from the conversation's own system turn")
        return {**row}
    return {**row, "prompt": [{"role": "system", "content": check_encodable(system, name)}, *prompt]}


def _mark_continued(shaped: Mapping[str, Messages], texts: Mapping[str, Messages]) -> Messages:
    """Mark the assistant's turn with which a prompt ends, where answers go on from it and do not repeat it."""
    prompt = shaped["prompt"]
    if any(len(turns) != len(texts[name]) for name, turns in shaped.items()):
        return prompt
    if "tool_calls" in prompt[-1]:
        raise BadRow("prompt ends with the assistant's tool_calls, which cannot be continued: add the tool's turn")
    return [*prompt[:-1], {**prompt[-1], "prefix": True}]


def _read_label(value: Any) -> bool:
    """Read true and false, 1 and 0, 1 and -1, also as text."""
    word = _LABELS.get(value.strip().lower(), value) if isinstance(value, str) else value
    if isinstance(word, bool) or (isinstance(word, int | float) and word in (0, 1, -1)):
        return word > 0
    raise BadRow(f"label is {'null' if value is None else repr(value)}; it must be true or false")


def _separate_prompt(texts: dict[str, Messages], chat: bool) -> dict[str, Messages]:
    """Take an implicit prompt out of the answers, or a repeated explicit one."""
    answers = {name: text for name, text in texts.items() if name != "prompt"}
    prompt = texts.get("prompt")
    if prompt is None:
        prompt = _find_common_start(*(text for name, text in answers.items() if name != "gold"))
    if _mixes_text_and_messages(prompt, *answers.values()):
        prompt, answers = _as_conversation(prompt, answers)
    answers = _strip_answers(answers, prompt, "prompt" not in texts)
    _refuse_other_histories(answers, len(prompt))
    if chat:
        prompt, answers = _as_conversation(prompt, answers)
    return {"prompt": prompt, **answers}


def _strip_answers(answers: dict[str, Messages], prompt: Messages, found: bool) -> dict[str, Messages]:
    """Return the answers without the prompt; gold, beside a pair, may repeat it too, text only where the pair does."""
    gold = {name: text for name, text in answers.items() if name == "gold"}
    pair = {name: text for name, text in answers.items() if name != "gold"}
    stripped = _strip_prompt(pair, prompt, found)
    if stripped != pair or not any(turn["role"] == "text" for turn in answers.get("gold", ())):
        gold = _strip_prompt(gold, prompt, stripped != pair)
    return {**stripped, **gold}


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
        return make_text(_find_common_text([answer[0]["content"] for answer in answers]))
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


def _strip_prompt(answers: dict[str, Messages], prompt: Messages, found: bool) -> dict[str, Messages]:
    """Return the answers without the prompt, if all begin with it; a text may do so by chance, unless it was found."""
    count = len(prompt)
    if all(answer[:count] == prompt and len(answer) > count for answer in answers.values()):
        return {name: answer[count:] for name, answer in answers.items()}
    start = prompt[0]["content"] if prompt and prompt[0]["role"] == "text" else ""
    texts = [answer[0]["content"] for answer in answers.values() if answer and answer[0]["role"] == "text"]
    if not start or len(texts) < len(answers) or not all(text.startswith(start) for text in texts):
        return answers
    apart = start[-1].isspace() or all(text[len(start) :][:1].isspace() for text in texts)
    if found or (len(texts) > 1 and (apart or len(start) >= _LONG)):
        return {name: make_text(text[len(start) :]) for name, text in zip(answers, texts, strict=True)}
    return answers


def _split_last_answer(messages: Messages, given: Any = ()) -> tuple[Messages, Messages]:
    """Split a conversation before the last turn of the assistant that is trained on, and leave out what follows it."""
    if not messages or messages[-1]["role"] != "assistant":
        raise BadRow("the conversation does not end with an assistant's turn")
    last = len(messages) - 1
    while last >= 0 and not (messages[last]["role"] == "assistant" and (not given or is_trained(given[last]))):
        last -= 1
    if last < 0:
        raise BadRow("each turn of the assistant has the weight 0: there is nothing to train on")
    return messages[:last], messages[last : last + 1]


def _refuse_untrained(answers: Mapping[str, Messages], given: Mapping[str, Any]) -> None:
    """Refuse answers with a turn of weight 0; a row of ``messages`` was split so that its answer has none."""
    for name, messages in answers.items():
        if name != "prompt":
            for turn in given.get(name, ())[-len(messages) :]:
                if turn["role"] == "assistant" and not is_trained(turn):
                    raise BadRow(f"{name} has a turn of weight 0, and an answer is trained on as a whole")


def _refuse_other_histories(answers: Mapping[str, Messages], begun: int) -> None:
    """Refuse two conversations that differ before their last turns; ``begun`` turns of theirs are the prompt."""
    if "chosen" not in answers:
        return
    pair = answers["chosen"], answers["rejected"]
    if len(pair[0]) == len(pair[1]) == 1:
        return
    if begun and any(turns[0]["role"] != "assistant" for turns in pair):  # they do not begin with the prompt
        return
    if any(turn["role"] in _NOT_ANSWERING for turns in pair for turn in turns):
        same = itertools.takewhile(lambda turns: turns[0] == turns[1], zip(*pair, strict=False))
        turn = begun + sum(1 for _ in same) + 1
        raise BadRow(f"the two histories differ at turn {turn}: chosen and rejected must share all but their ends")


def _refuse_empty(texts: Mapping[str, Messages]) -> None:
    for name, messages in texts.items():
        empty = not messages or not says_anything(messages[-1])
        if empty and not (name == "prompt" and messages and messages[0]["role"] == "text" and "completion" in texts):
            raise BadRow(f"{name} is empty")
        if name == "prompt":
            continue
        if messages[-1]["role"] not in ("assistant", "text"):
            raise BadRow(f"{name} ends with the role {messages[-1]['role']!r}; it must end with the assistant's turn")
        if any(message["role"] in _NOT_ANSWERING for message in messages):
            raise BadRow(f"{name} is a conversation that does not begin with its prompt")

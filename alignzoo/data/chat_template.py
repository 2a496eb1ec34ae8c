"""Writes conversations with a tokenizer's chat template, and refuses those of which it leaves something out."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from alignzoo.data.marks import Marks, find_lost
from alignzoo.data.messages import THOUGHTS, BadRow, Message, Messages, join_turns, unwrap
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: A thought that a template opens for generation, and that it writes otherwise once a turn is finished (DeepSeek-R1).
_OPENED = re.compile(r"<think(ing)?>\s*$")

_INLINE = re.compile(r"<think>(.*?)</think>", re.DOTALL)

_PLAIN = {"user", "assistant"}  #: roles that every template writes


class ChatTemplate:
    """The chat template of a tokenizer, with the arguments that every row has for it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, kwargs: Mapping[str, Any]) -> None:
        self.tokenizer, self.kwargs = tokenizer, kwargs
        self.unread: set[str] = set()
        """Fields of messages that it did not write so far, of those that rows are not refused for."""

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """The words of the template's source: what it reads is among them."""
        return frozenset(re.findall(r"\w+", str(self.tokenizer.chat_template)))

    def split(self, row: Mapping[str, Any], answers: Mapping[str, Messages]) -> tuple[str, dict[str, str]]:
        """Return the prompt as generation starts from it, and what the template writes behind it for each answer.

        Where the template opens a thought for generation that finished turns do not have, the prompt ends before it.

        Raises:
            BadRow: the template refuses the conversation, leaves a part of it out, or writes the prompt differently
                when an answer follows.
            UserError: the tokenizer has no chat template.
        """
        prompt: Messages = row["prompt"]
        inputs = self._check_inputs(row) if "tools" in row or "template_kwargs" in row else self.kwargs
        start = self.render_prompt(prompt, inputs)
        self._check_prompt(row, start)
        self._note_unread(prompt, start)
        self._check_calls(prompt, answers, inputs)
        wholes = {name: self.render(join_turns(prompt, answer), inputs) for name, answer in answers.items()}
        for whole in wholes.values():
            if not whole.startswith(start):
                start = _OPENED.sub("", start)
        ends = {}
        for name, answer in answers.items():
            if not wholes[name].startswith(start):
                raise BadRow("the chat template writes the prompt differently when an answer follows")
            ends[name] = wholes[name][len(start) :]
            self._note_unread(answer, ends[name])
            _check_answer(name.removesuffix("_ids"), answer, ends[name])
        return start, ends

    def render_prompt(self, prompt: Messages, inputs: Mapping[str, Any]) -> str:
        """Return the text that generation starts from, within the last turn where the prompt begins one."""
        if not prompt[-1].get("prefix"):
            return self.render(prompt, inputs, add_generation_prompt=True)
        begun = {field: value for field, value in prompt[-1].items() if field != "prefix"}
        return self.render([*prompt[:-1], begun], inputs, continue_final_message=True)

    def render(self, messages: Messages, inputs: Mapping[str, Any], **how: bool) -> str:
        """Return what the template writes; ``inputs`` are the row's tools and further arguments."""
        if not self.tokenizer.chat_template:
            raise UserError(
                "the dataset holds conversations, and the model's tokenizer has no chat template.\n"
                "Set model.chat_template=chatml, or the path of a Jinja template."
            )
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, **how, **inputs)
        except UserError:  # it does not end
            raise
        except Exception as error:  # templates raise their own complaints
            roles = ", ".join(message["role"] for message in messages)
            reason = str(error).partition("\n")[0]
            raise BadRow(f"the model's chat template refuses a conversation of {roles}: {reason}") from None
        return text

    def _check_inputs(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of the row for the template, if it reads all of them."""
        kwargs: dict[str, Any] = row.get("template_kwargs") or {}
        for name in kwargs:
            if name not in self.words:
                raise BadRow(f"chat_template_kwargs has {name}, which the model's chat template does not read")
        return {**self.kwargs, **kwargs, **({"tools": row["tools"]} if "tools" in row else {})}

    def _check_prompt(self, row: Mapping[str, Any], text: str) -> None:
        """Refuse a prompt of which the template leaves out a turn, the tools, or all thoughts.

        Those of earlier turns it may leave out: that is how the model reads a conversation when it answers.
        """
        for message in row["prompt"]:
            if message["role"] not in _PLAIN and not _is_written(message["content"], text):
                raise BadRow(f"the model's chat template leaves out the turn of the {message['role']}")
            if len(message) > 2 and any(field in message for field in THOUGHTS) and self.words.isdisjoint(THOUGHTS):
                raise BadRow("prompt loses its thoughts: the model's chat template does not write them")
        if "tools" not in row:
            return
        names = [unwrap(tool).get("name", "") for tool in row["tools"]]
        if "tools" not in self.words or not all(str(name) in text for name in names):
            raise BadRow("the model's chat template leaves out the tools")

    def _note_unread(self, messages: Messages, text: str) -> None:
        """Note what the template leaves out of the messages and rows are not refused for."""
        for message in messages:
            if len(message) > 2:
                self.unread |= {
                    name
                    for name in ("name", "tool_call_id")
                    if name in message and (name not in self.words or message[name] not in text)
                }

    def _check_calls(self, prompt: Messages, answers: Mapping[str, Messages], inputs: Mapping[str, Any]) -> None:
        """Refuse calls of which the template leaves out something, and answers that lose the words beside theirs.

        Rows with calls are rendered once more for it, with marks in place of what the calls hold.
        """
        if _has_calls(prompt):
            marks = Marks(prompt)
            for lost in find_lost(marks, self.render_prompt(marks.messages, inputs)):
                raise BadRow(f"prompt: {lost}")
        for name, answer in answers.items():
            if _has_calls(answer):
                marks = Marks(answer)
                text = self.render(join_turns(prompt, marks.messages), inputs)
                for lost in find_lost(marks, text, words=True):
                    raise BadRow(f"{name.removesuffix('_ids')}: {lost}")


def _has_calls(messages: Messages) -> bool:
    return any("tool_calls" in message for message in messages)


def _check_answer(name: str, answer: Messages, text: str) -> None:
    """Refuse an answer of which the template leaves out a turn of a tool, or a thought."""
    for message in answer:
        if len(message) == 2 and message["role"] == "assistant" and "</think>" not in message["content"]:
            continue
        if message["role"] not in _PLAIN and not _is_written(message["content"], text):
            raise BadRow(f"{name}: the model's chat template leaves out the turn of the {message['role']}")
        if not all(thought.strip() in text for thought in _find_thoughts(message)):
            raise BadRow(f"{name} loses its thoughts: the model's chat template does not write them")


def _find_thoughts(message: Message) -> Iterator[str]:
    yield from (message[field] for field in THOUGHTS if field in message)
    yield from _INLINE.findall(message["content"])


def _is_written(content: str, text: str) -> bool:
    """Tell whether the text has the content, as it is or as JSON, which templates make of what a tool returned."""
    return content.strip() in text or any(json.dumps(content, ensure_ascii=how)[1:-1] in text for how in (True, False))

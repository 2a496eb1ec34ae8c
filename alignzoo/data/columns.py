"""Says what becomes of each column: it is used, carried along for rewards, refused, or named as not read."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alignzoo.config.mapping_words import write_mapping
from alignzoo.data.message_text import parse_messages
from alignzoo.data.messages import BadRow
from alignzoo.plugin.method import DataFormat

#: Columns that every layout reads.
SHARED = frozenset({"id", "system", "tools", "chat_template_kwargs"})

#: Columns that hold the question where there is no `prompt`.
QUESTIONS = ("question", "query", "input", "instruction", "problem", "prompt_messages", "user_input", "user_prompt")

#: Columns that may be the question, or only what it is about.
CONTEXTS = ("context", "dialogue", "conversation", "conversations", "messages", "history", "post", "user")

#: Other names, which count where none of ours is there: all of a group together, beside the columns named first.
ALIASES: tuple[tuple[frozenset[str], dict[str, str]], ...] = (
    (frozenset(), {"kto_tag": "label"}),
    (frozenset(), {"system_prompt": "system"}),
    (frozenset(), {"system_message": "system"}),
    (frozenset(), {"chosen_response": "chosen", "rejected_response": "rejected"}),
    (frozenset(), {"chosen_messages": "chosen", "rejected_messages": "rejected"}),
    (frozenset(), {"chosen_conversations": "chosen", "rejected_conversations": "rejected"}),
    (frozenset(), {"messages": "chosen", "rejected_messages": "rejected"}),
    (frozenset({"chosen"}), {"rejected_response": "rejected"}),
    (frozenset({"rejected"}), {"chosen_response": "chosen"}),
    (frozenset({"instruction"}), {"context": "input"}),
)

#: Names of the answer beside a question; `answer` and `solution` are not among them: rewards read these.
ANSWERS: tuple[tuple[frozenset[str], dict[str, str]], ...] = (
    (frozenset(), {"response": "chosen", "rejected_response": "rejected"}),
    (frozenset({"instruction"}), {"response": "output"}),
    (frozenset(), {"response": "completion"}),
    (frozenset(), {"generation": "completion"}),
)

MOST = 200  #: names in a line; a file with more has values for names

_SPEAKER = frozenset(("role", "from"))  #: the field that says who speaks

MEDIA = re.compile(
    r"(^|_)(image|img|picture|photo|video|audio)s?\d*(_|$)|^((chosen|rejected)_)?speech(es)?(_(path|url|file|bytes)s?)?$"
    r"|^(jpe?g|png|mp[34]|wav|pixel_values)$"
)

_THOUGHTS = (
    *("reasoning", "reasoning_content", "reasoning_trace", "thinking", "think", "thought", "thoughts"),
    *("cot", "chain_of_thought", "rationale"),
)
_LABELS = ("label", "labels", "kto_tag", "kto_label", "is_good", "is_correct", "desirable")
_SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction", "sys_prompt", "system_msg")
_WEIGHTS = ("weight", "weights", "sample_weight", "loss_weight", "loss", "loss_scale", "loss_mask")
_TOOLS = ("tools", "available_tools", "tool_list", "functions", "tool_calls")
_ARGUMENTS = ("enable_thinking", "documents")  #: of chat templates

#: Columns that change what is trained where a layout reads them -> the kinds of rows that do not, and are refused.
_NOT_PROMPTS = frozenset(DataFormat) - {DataFormat.PROMPTS}
DECISIVE = {
    **dict.fromkeys((*_LABELS, *_SYSTEMS, *_WEIGHTS, *_TOOLS, *_THOUGHTS, *_ARGUMENTS), _NOT_PROMPTS),
    "score": frozenset({DataFormat.SUPERVISED, DataFormat.UNPAIRED}),
    **dict.fromkeys(("chosen", "rejected", "rejected_response", "rejected_messages"), _NOT_PROMPTS),
}

_ANSWERED = frozenset(("completion", "chosen", "output"))

#: What to do about a decisive column, instead of leaving it out.
_INSTEAD = {
    **dict.fromkeys(_THOUGHTS, "put the thought into the message, as reasoning_content"),
    **dict.fromkeys(_WEIGHTS, "put weight: 0 or 1 into the messages"),
    **dict.fromkeys(_TOOLS, "write tools beside the conversation, and tool_calls in its messages"),
    **dict.fromkeys(_SYSTEMS, "write the system prompt as the column system"),
    **dict.fromkeys(_ARGUMENTS, "write it into the column chat_template_kwargs"),
}


@dataclass
class Unread:
    """What the rows hold that is not read: columns by the file's names, and fields of messages."""

    columns: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)

    def __or__(self, other: Unread) -> Unread:
        return Unread(self.columns | other.columns, self.fields | other.fields)

    def describe(self, wanted: DataFormat) -> list[str]:
        """Return lines for a method that trains on ``wanted``: rewards read the columns beside a prompt."""
        columns, fields = _list_names(self.columns), _list_names(self.fields)
        carried = wanted is DataFormat.PROMPTS
        parts = [] if carried or not columns else [columns]
        parts += [f"in messages: {fields}"] if fields else []
        lines = [f"not read: {', '.join(parts)}"] if parts else []
        return [*lines, f"for rewards: {columns}"] if carried and columns else lines


def _list_names(names: set[str]) -> str:
    """Return the names as text that can be printed, the first of very many."""
    listed = [name.encode(errors="replace").decode() for name in sorted(names)]
    more = f" and {len(listed) - MOST:,} more" if len(listed) > MOST else ""
    return ", ".join(listed[:MOST]) + more


def is_said(value: Any) -> bool:
    """Tell whether a value says anything: null, an empty text and an empty list say nothing."""
    return value is not None and not (isinstance(value, str | list | tuple | dict) and not value)


def explain_refusal(name: str, kind: DataFormat, settled: bool) -> str | None:
    """Return why rows of ``kind`` with something in the further column ``name`` are refused, and what to write.

    ``settled``: the user has named the layout, so that a column of another layout is left out on purpose.
    """
    leave = f"{write_mapping('dataset.columns', {name: None})} leaves it out"
    known = name.lower()
    if MEDIA.search(known):
        return f"alignzoo trains text only, and the column {name} holds more; {leave}"
    if kind in DECISIVE.get(known, ()) and not (settled and known not in _INSTEAD):
        instead = f"{_INSTEAD[known]}; or " if known in _INSTEAD else ""
        if name != "label" and known in _LABELS and kind is DataFormat.SUPERVISED:
            instead = f"{write_mapping('dataset.columns', {name: 'label'})} reads it; or "
        return f"the column {name} would change what is trained, and is not read in {kind} rows: {instead}{leave}"
    return None


def propose_names(names: frozenset[str], sample: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """Yield the ways to read columns under our names (theirs -> ours), the one that renames least first."""
    always: dict[str, str] = {}
    for beside, group in ALIASES:
        if beside | group.keys() <= names and not (names | set(always.values())) & set(group.values()):
            always |= group
    asked = find_questions(names, sample)
    questions: list[dict[str, str]] = [{}, *([{asked[0]: "prompt"}] if len(asked) == 1 else [])]
    left = (names | set(always.values())) - always.keys()
    answers = [{}, *(group for beside, group in ANSWERS if beside | group.keys() <= left and not left & _ANSWERED)]
    for question, answer in itertools.product(questions, answers):
        yield {**always, **question, **answer}


def find_questions(names: Iterable[str], sample: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that hold a question, as text or messages, where no `prompt` does."""
    names = set(names)
    return [] if "prompt" in names else [name for name in QUESTIONS if name in names and _holds_words(name, sample)]


def find_possible_questions(names: Iterable[str], sample: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that may hold a question: those named so, and free text that differs from row to row."""
    return [
        name
        for name in [*(name for name in QUESTIONS if name in names), *sorted(set(names) - {*QUESTIONS})]
        if _holds_words(name, sample) and (name in QUESTIONS or name in CONTEXTS or _differs(name, sample))
    ]


def _holds_words(name: str, sample: Sequence[Mapping[str, Any]]) -> bool:
    values = [row.get(name) for row in sample if is_said(row.get(name))]
    return bool(values) and all(isinstance(value, str) or _is_conversation(value) for value in values)


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(turn, Mapping) and turn.keys() & {"role", "from"} for turn in value
    )


def _differs(name: str, sample: Sequence[Mapping[str, Any]]) -> bool:
    """Tell free text, or conversations, from categories, numbers and hashes."""
    values = [row.get(name) for row in sample]
    if any(isinstance(value, list) for value in values):
        return True
    texts = {value for value in values if isinstance(value, str)}
    spaced = sum(len(text.split()) > 2 for text in texts)
    return len(texts) > len(sample) / 2 and spaced > len(texts) / 2


def begins_conversation(value: Any) -> bool:
    """Tell whether an answer is a whole conversation, with its question."""
    with contextlib.suppress(BadRow):
        value = parse_messages(value, "")
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and first.get("role", first.get("from")) in (
        "user",
        "human",
        "system",
        "developer",
    )

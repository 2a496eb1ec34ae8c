"""Writes rows that any method can tell apart, in each layout of datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from alignzoo.data.convert import MEANING
from alignzoo.plugin.method import DataFormat, Method

Row = dict[str, Any]

NAMES = ("salt", "rain", "iron", "snow", "wind", "clay", "moss", "rust")
VERBS = ("What is", "Why do we need", "Where is", "Who sells", "What makes", "When was", "How do we keep", "Who needs")
PROMPTS = [f"{verb} {name}?" for name in NAMES for verb in VERBS]  #: enough for one step of many sampled completions
CHOSEN, REJECTED = "Ask me more.", "No."  #: the same in every row, so that a few steps tell them apart
GOLD = "Ask me."  #: the third answer, where a method asks for one
MARGIN = 2.0


def _make_turn(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def _make_conversation(prompt: str, answer: str) -> list[dict[str, str]]:
    return _make_turn("user", prompt) + _make_turn("assistant", answer)


def _make_messages(prompt: str) -> list[Row]:
    chosen, rejected = (_make_turn("assistant", text) for text in (CHOSEN, REJECTED))
    return [{"prompt": _make_turn("user", prompt), "chosen": chosen, "rejected": rejected}]


def _make_text(prompt: str) -> list[Row]:
    return [{"prompt": prompt, "chosen": CHOSEN, "rejected": REJECTED}]


def _make_implicit(prompt: str) -> list[Row]:
    return [{"chosen": _make_conversation(prompt, CHOSEN), "rejected": _make_conversation(prompt, REJECTED)}]


def _make_marked(prompt: str) -> list[Row]:
    return [{"prompt": prompt, "completion": text, "label": text == CHOSEN} for text in (CHOSEN, REJECTED)]


def _make_scored(prompt: str) -> list[Row]:
    return [{"prompt": prompt, "completion": text, "score": float(text == CHOSEN)} for text in (CHOSEN, REJECTED)]


def _make_answers(prompt: str) -> list[Row]:
    return [{"messages": _make_conversation(prompt, CHOSEN)}]


def _make_prompts(prompt: str) -> list[Row]:
    return [{"prompt": _make_turn("user", prompt)}]


#: Name -> what such a dataset holds, and the rows that it has for a prompt.
LAYOUTS: dict[str, tuple[DataFormat, Callable[[str], list[Row]]]] = {
    "pairs-of-messages": (DataFormat.PREFERENCE, _make_messages),
    "pairs-of-text": (DataFormat.PREFERENCE, _make_text),
    "pairs-of-conversations": (DataFormat.PREFERENCE, _make_implicit),
    "marked-answers": (DataFormat.UNPAIRED, _make_marked),
    "scored-answers": (DataFormat.SCORED, _make_scored),
    "good-answers": (DataFormat.SUPERVISED, _make_answers),
    "prompts": (DataFormat.PROMPTS, _make_prompts),
}


def list_layouts(wanted: DataFormat, further: Collection[str] = ()) -> list[str]:
    """Return the layouts from which rows of the format ``wanted`` can be made, with the ``further`` columns."""
    found = [name for name, (kind, _) in LAYOUTS.items() if kind is wanted or (kind, wanted) in MEANING]
    return [name for name in found if _give_further(name) >= {*further}]


def _give_further(layout: str) -> set[str]:
    """Return the further columns that pairs of a layout can have."""
    kind = LAYOUTS[layout][0]
    return {DataFormat.PREFERENCE: {"margin", "gold_ids"}, DataFormat.SCORED: {"margin"}}.get(kind, set())


def find_further(method: type[Method]) -> list[str]:
    """Return the further columns that the method cannot do without, with its default settings."""
    from alignzoo.config.compose import compose

    declared: Any = method.further_columns
    if declared.__func__ is Method.further_columns.__func__:  # type: ignore[attr-defined]
        return []
    return [name for name, needed in declared(compose([f"method={method.name}"])).items() if needed]


def write_rows(layout: str, folder: Path, further: Collection[str] = ()) -> Path:
    """Write a dataset of :data:`PROMPTS` in that layout as JSON lines, and return the file.

    ``further``: columns that its pairs have too.
    """
    file = folder / f"{layout}.jsonl"
    rows = [(prompt, row) for prompt in PROMPTS for row in LAYOUTS[layout][1](prompt)]
    lines = [json.dumps(_add_further(layout, prompt, row, further)) for prompt, row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _add_further(layout: str, prompt: str, row: Row, further: Collection[str]) -> Row:
    """Return the row with a margin and a gold answer, where a pair has a place for them."""
    if LAYOUTS[layout][0] is not DataFormat.PREFERENCE:
        return row
    gold = {"pairs-of-text": GOLD, "pairs-of-messages": _make_turn("assistant", GOLD)}
    values = {"margin": MARGIN, "gold_ids": gold.get(layout, _make_conversation(prompt, GOLD))}
    return {**row, **{name.removesuffix("_ids"): values[name] for name in further}}

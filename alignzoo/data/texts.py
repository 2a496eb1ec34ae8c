"""The texts of prepared rows and their lengths, read out of the table for the checks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.data.tokens import ANSWERS

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Texts:
    """The rows' texts, as columns: ``prompt`` and each answer are their last message's content."""

    rows: np.ndarray[Any, Any]
    prompt: list[str]
    answers: dict[str, list[str]]
    tokens: dict[str, np.ndarray[Any, Any]]


def read_texts(rows: Dataset) -> Texts:
    """Read prompts and answers out of the table, in batches."""
    names = [name for name in ANSWERS if _present(rows, name)]
    prompt: list[str] = []
    answers: dict[str, list[str]] = {name: [] for name in names}
    tokens: dict[str, list[int]] = {name: [] for name in ("prompt", *names)}
    columns = ["prompt", *names, *(f"{name}_ids" for name in ("prompt", *names))]
    for batch in rows.select_columns(columns).with_format("arrow").iter(5_000):
        prompt += [_last(text) for text in batch.column("prompt").to_pylist()]
        for name in names:
            answers[name] += [_last(text) for text in batch.column(name).to_pylist()]
        for name, counts in tokens.items():
            counts += [len(ids) for ids in batch.column(f"{name}_ids")]
    numbers = np.array(rows["row"], dtype=int)
    return Texts(numbers, prompt, answers, {name: np.array(counts) for name, counts in tokens.items()})


def normal(text: str) -> str:
    """Return letters only, in lower case, one blank between words: what near-duplicates share."""
    return " ".join(re.sub(r"[\W\d_]+", " ", text.casefold()).split())


def _present(rows: Dataset, name: str) -> bool:
    return name in rows.column_names and len(rows) > 0 and rows[0][name] is not None


def _last(messages: str) -> str:
    return str(json.loads(messages)[-1]["content"])

"""Reduces each prepared row to the numbers that the checks need: a million rows of text would not fit in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.data.tokenise import ANSWERS

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 5_000  #: rows whose texts are in memory at once

REFUSAL = re.compile(
    r"^\W*(i'?m sorry|i am sorry|sorry,|i apologi[sz]e|i can(?:no|')t|i am unable|i'?m unable|i'?m not able|i won'?t"
    r"|as an ai|as a language model)",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")
_OTHER_LETTER = re.compile(r"[^\W\d_\u0000-\u024f]")

Column = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Features:
    """Columns over the rows. A text is the content of its last message; a hash is of this process only."""

    rows: Column
    """Numbers in the source."""

    prompt: Column
    """Hash of the prompt."""

    plain: Column
    """Hash of the prompt as :func:`normalise` writes it; 0 where nothing is left."""

    tokens: dict[str, Column]
    """Of the prompt and of each answer."""

    repeats: dict[str, Column]
    """Whether the answer begins with its prompt."""

    marks: dict[str, dict[str, Column]]
    """For each of :data:`MARKS`, whether the answer has it."""


def refuses(text: str) -> bool:
    """Tell whether an answer begins as a refusal does."""
    return REFUSAL.match(text) is not None


def is_other_script(text: str) -> bool:
    """Tell whether most letters, of the first 400 characters, are not Latin."""
    return 2 * len(_OTHER_LETTER.findall(text, 0, 400)) > len(_LETTER.findall(text, 0, 400))


#: Properties that may tell chosen from rejected answers without reading them.
MARKS: dict[str, Callable[[str], bool]] = {"refusals": refuses, "answers in another script than Latin": is_other_script}


def normalise(text: str) -> str:
    """Return letters only, in lower case, one blank between words: what near-duplicates share."""
    return " ".join(re.sub(r"[\W\d_]+", " ", text.casefold()).split())


def read_features(rows: Dataset) -> Features:
    """Read them out of the table, batch by batch."""
    names = [name for name in ANSWERS if _has_column(rows, name)]
    columns = ["row", "prompt", *names, *(f"{name}_ids" for name in ("prompt", *names))]
    batches = rows.select_columns(columns).with_format("arrow").iter(BATCH)
    return _join([_read_batch(batch, names) for batch in batches] or [_read_batch(None, names)])


def _read_batch(batch: Any, names: list[str]) -> Features:
    import pyarrow.compute as pc

    def texts(name: str) -> list[str]:
        return [] if batch is None else [_last_content(text) for text in batch.column(name).to_pylist()]

    def numbers(name: str) -> Column:
        return np.array([], int) if batch is None else batch.column(name).to_numpy()

    def lengths(name: str) -> Column:
        return (
            np.array([], int)
            if batch is None
            else pc.fill_null(pc.list_value_length(batch.column(f"{name}_ids")), 0).to_numpy()
        )

    prompts, answers = texts("prompt"), {name: texts(name) for name in names}
    plain = [normalise(prompt) for prompt in prompts]
    return Features(
        rows=numbers("row"),
        prompt=np.array([hash(prompt) for prompt in prompts], np.int64),
        plain=np.array([hash(text) if text else 0 for text in plain], np.int64),
        tokens={name: lengths(name) for name in ("prompt", *names)},
        repeats={
            name: np.array([_repeats(*pair) for pair in zip(prompts, found, strict=True)], bool)
            for name, found in answers.items()
        },
        marks={
            mark: {name: np.array([test(text) for text in found], bool) for name, found in answers.items()}
            for mark, test in MARKS.items()
        },
    )


def _last_content(text: str | None) -> str:
    """Return the content of the last message; empty where some rows have a third answer and this one has none."""
    return "" if text is None else str(json.loads(text)[-1]["content"])


def _repeats(prompt: str, answer: str) -> bool:
    return len(prompt) > 20 and answer.lstrip().startswith(prompt.strip())


def _join(parts: list[Features]) -> Features:
    def join(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {key: join([value[key] for value in values]) for key in values[0]}
        return np.concatenate(values)

    return Features(**{name: join([getattr(part, name) for part in parts]) for name in Features.__dataclass_fields__})


def _has_column(rows: Dataset, name: str) -> bool:
    return name in rows.column_names and len(rows) > 0 and rows[0][name] is not None

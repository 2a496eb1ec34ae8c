"""Reads facts of all rows out of their table at once: hashes and lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.data.tokenise import ANSWERS

if TYPE_CHECKING:
    from datasets import Dataset


def read_keys(rows: Dataset, column: str) -> np.ndarray[Any, Any]:
    """Return the hashes, 0 for a row that could not be read: nulls would make floats of all, which round them."""
    import pyarrow.compute as pc

    keys: np.ndarray[Any, Any] = pc.fill_null(rows.data.column(column), 0).to_numpy()
    return keys


def count_tokens(rows: Dataset) -> np.ndarray[Any, Any]:
    """Return the tokens of prompt and longest answer, row by row, counted in Arrow."""
    import pyarrow.compute as pc

    def counts(column: str) -> np.ndarray[Any, Any]:
        lengths: np.ndarray[Any, Any] = pc.fill_null(pc.list_value_length(rows.data.column(column)), 0).to_numpy()
        return lengths

    answers = [counts(f"{answer}_ids") for answer in ANSWERS]
    total: np.ndarray[Any, Any] = counts("prompt_ids") + np.maximum.reduce(answers)
    return total


def hash_tokens(rows: Dataset) -> np.ndarray[Any, Any]:
    """Return a 64-bit hash of each row's token ids, prompt and answers, as hexadecimal text."""
    import hashlib

    hashes: list[str] = []
    columns = [f"{name}_ids" for name in ("prompt", *ANSWERS)]
    columns = [name for name in columns if rows.data.column(name).null_count < len(rows)] or columns[:1]
    names = [name.encode() for name in columns]
    for batch in rows.select_columns(columns).with_format("arrow").iter(10_000):
        for ids in zip(*(batch.column(column) for column in columns), strict=True):
            digest = hashlib.blake2b(digest_size=8)
            for name, part in zip(names, ids, strict=True):
                if part.is_valid:
                    digest.update(name + part.values.to_numpy().tobytes() + b"|")
            hashes.append(digest.hexdigest())
    return np.array(hashes)

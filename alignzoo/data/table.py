"""Canonical, tokenised rows as one Arrow file in the cache: read once, written in bounded memory, reused ever after."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo import cache
from alignzoo.data.layouts import BadRow, Layout, recognise
from alignzoo.data.sources import Source
from alignzoo.data.tokens import ANSWERS, Tokeniser
from alignzoo.errors import UserError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset
    from omegaconf import DictConfig

BATCH = 1000  #: rows tokenised and written at once
VERSION = 1  #: raised whenever the same input gives other rows


def table(source: Source, tokeniser: Tokeniser, cfg: DictConfig) -> tuple[Dataset, Layout]:
    """Return the source's rows, memory-mapped, and their layout; ``cfg`` is the group ``dataset``.

    Columns: ``row`` (its number in the source, from 1), ``id``, ``prompt`` (JSON messages), ``prompt_key`` (64-bit hash
    of the prompt), ``prompt_ids``, ``<answer>_ids``, ``label``, ``extra`` (JSON of the further columns), ``problem``
    (why the row cannot be used, or null).

    Raises:
        UserError: the source is empty, unreadable, or of no known layout.
    """
    import datasets

    first = next(source.rows(), None)
    if first is None:
        raise UserError(f"{source.place} holds no rows.")
    layout = recognise(set(first), dict(cfg.columns), cfg.chat, source.place)
    key = json.dumps(
        [VERSION, source.identity, tokeniser.identity, dict(layout.columns), dict(layout.extras), cfg.chat],
        sort_keys=True,
    )
    file = cache.folder("rows") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.arrow"
    if not file.exists():
        _write(file, source, layout, tokeniser)
    return datasets.Dataset.from_file(str(file)), layout


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    ids = pa.list_(pa.int32())
    fields = [("row", pa.int64()), ("id", pa.string()), ("prompt", pa.string()), ("prompt_key", pa.int64())]
    fields += [("prompt_ids", ids), *((f"{answer}_ids", ids) for answer in ANSWERS)]
    fields += [("label", pa.bool_()), ("extra", pa.string()), ("problem", pa.string())]
    return pa.schema(fields)


def _write(file: Path, source: Source, layout: Layout, tokeniser: Tokeniser) -> None:
    """Write aside and rename, so that a kill leaves no half file."""
    import pyarrow as pa

    schema = _schema()
    aside = file.with_suffix(f".{os.getpid()}")
    try:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for rows in _batches(source):
                writer.write_batch(pa.RecordBatch.from_pylist(_records(rows, layout, tokeniser), schema))
        os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)


def _batches(source: Source) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    numbered = enumerate(source.rows(), 1)
    while rows := list(itertools.islice(numbered, BATCH)):
        yield rows


def _records(rows: list[tuple[int, dict[str, Any]]], layout: Layout, tokeniser: Tokeniser) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    good: list[dict[str, Any]] = []
    for number, row in rows:
        record: dict[str, Any] = {"row": number, "id": str(row["id"]) if row.get("id") is not None else f"row-{number}"}
        try:
            shaped = layout.canonical(row)
            record |= {"label": shaped.get("label"), "prompt": json.dumps(shaped["prompt"], ensure_ascii=False)}
            record |= {"prompt_key": _key(record["prompt"]), "extra": _extra(row, layout), "_shaped": shaped}
            good.append(record)
        except BadRow as problem:
            record["problem"] = str(problem)
        records.append(record)
    for record, ids in zip(good, tokeniser.encode([r["_shaped"] for r in good]), strict=True):
        shaped = record.pop("_shaped")
        record |= ids
        if any(name in shaped and f"{name}_ids" not in ids for name in ANSWERS):
            record["problem"] = "the chat template writes the prompt differently when an answer follows"
    return records


def _key(prompt: str) -> int:
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big", signed=True)


def _extra(row: dict[str, Any], layout: Layout) -> str:
    """Return the columns that the layout does not use, for rewards to read."""
    extras = {name: row.get(theirs) for name, theirs in layout.extras.items()}
    return json.dumps(extras, ensure_ascii=False, default=str)

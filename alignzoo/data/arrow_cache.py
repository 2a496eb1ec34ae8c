"""Reads a source once, and caches its canonical, tokenised rows as an Arrow file, written in bounded memory."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.data.columns import Unread
from alignzoo.data.layout import Layout
from alignzoo.data.messages import BadRow, Messages, check_encodable
from alignzoo.data.near_equal import BANDS, sign
from alignzoo.data.recognise import SAMPLE, recognise
from alignzoo.data.sources import Source
from alignzoo.data.tokenise import ANSWERS, Piece, Tokeniser
from alignzoo.system import cache
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset
    from omegaconf import DictConfig

BATCH = 2000  #: rows tokenised and written at once
PROGRESS_FROM = 20_000  #: rows from which a progress bar is worth its space
VERSION = 10  #: raised whenever the same input gives other rows
FILE = "rows.arrow"
UNREAD = "unread.json"  #: columns and fields of messages that are not read

#: Columns of what near-equal prompts share.
NEAR = ("near_key", *(f"near_{band}" for band in range(BANDS)))

Numbered = list[tuple[int, dict[str, Any]]]


def load_table(source: Source, tokeniser: Tokeniser, cfg: DictConfig) -> tuple[Dataset, Layout]:
    """Return the source's rows, memory-mapped, and their layout; ``cfg`` is the group ``dataset``.

    Columns: ``row`` (its number in the source, from 1), ``id``, ``prompt`` and the answers as JSON messages,
    ``prompt_key`` (64-bit hash of the prompt and of ``template_inputs``), ``heldout_key`` (decides whether the row is
    held out: ``prompt_key``, or a hash of the text for a text without a prompt), ``near_key`` and ``near_0``, ... (what
    near-equal prompts share: :func:`alignzoo.data.near_equal.sign`), ``prompt_ids``, ``<answer>_ids``,
    ``label``, ``score``, ``margin``, ``extra`` (JSON of the further columns), ``template_inputs`` (JSON of tools and
    template_kwargs, if any), ``problem`` (why the row cannot be used, or null). A row of several pairs gives several.

    Raises:
        UserError: the source is empty, unreadable, or of no known layout.
    """
    import datasets

    sample = list(itertools.islice(source.rows(), SAMPLE))
    if not sample:
        raise UserError(f"{source.place} holds no rows.")
    layout = recognise(sample, cfg, source.place, source.rows())
    key = json.dumps([VERSION, source.identity, tokeniser.identity, layout.identity])
    entry = cache.make_folder("rows") / hashlib.sha256(key.encode()).hexdigest()[:32]
    if cache.open_entry(entry) is None:
        with cache.write_entry(entry) as folder:
            tokeniser.template.unread.clear()
            _write(folder / FILE, source, layout, tokeniser)
            layout.unread.fields |= tokeniser.template.unread
            (folder / UNREAD).write_text(json.dumps({n: sorted(found) for n, found in vars(layout.unread).items()}))
        cache.trim()
    cache.mark_used(entry)
    unread = {name: set(found) for name, found in json.loads((entry / UNREAD).read_text()).items()}
    return datasets.Dataset.from_file(str(entry / FILE)), replace(layout, unread=Unread(**unread))


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    fields = [("row", pa.int64()), ("id", pa.string()), ("prompt", pa.string())]
    fields += [(name, pa.int64()) for name in ("prompt_key", "heldout_key", *NEAR)]
    fields += [(answer, pa.string()) for answer in ANSWERS]
    fields += [(f"{name}_ids", pa.list_(pa.int32())) for name in ("prompt", *ANSWERS)]
    fields += [("label", pa.bool_()), ("score", pa.float64()), ("margin", pa.float64()), ("extra", pa.string())]
    fields += [("template_inputs", pa.string()), ("problem", pa.string())]
    return pa.schema(fields)


def _write(file: Path, source: Source, layout: Layout, tokeniser: Tokeniser) -> None:
    import pyarrow as pa

    schema = _schema()
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for records in _tokenise_batches(source, layout, tokeniser):
            writer.write_batch(pa.RecordBatch.from_pylist(records, schema))


def _tokenise_batches(source: Source, layout: Layout, tokeniser: Tokeniser) -> Iterator[list[dict[str, Any]]]:
    """Yield finished records batch by batch; one batch is tokenised, outside Python's lock, while the next is read."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for records in _show_progress(_shape_rows(rows, layout) for rows in _read_batches(source)):
            texts = _render(records, tokeniser)
            coming = records, pool.submit(tokeniser.tokenise, texts)
            if waiting:
                yield _add_ids(*waiting)
            waiting = coming
        if waiting:
            yield _add_ids(*waiting)


def _read_batches(source: Source) -> Iterator[Numbered]:
    numbered = enumerate(source.rows(), 1)
    while rows := list(itertools.islice(numbered, BATCH)):
        yield rows


def _show_progress(batches: Iterator[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
    """Show how many rows were read, on a terminal and once there are many."""
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from alignzoo.system.console import make_console

    counter, console = TextColumn("Reading and tokenising {task.completed:,} rows"), make_console(stderr=True)
    shown = Progress(counter, TimeElapsedColumn(), transient=True, console=console)
    task = shown.add_task("rows", total=None)
    try:
        for batch in batches:
            shown.advance(task, len(batch))
            if console.is_terminal and shown.tasks[0].completed >= PROGRESS_FROM:
                shown.start()
            yield batch
    finally:
        if shown.live.is_started:
            shown.stop()


def _shape_rows(rows: Numbered, layout: Layout) -> list[dict[str, Any]]:
    """Return records with canonical texts, or with the problem that keeps a row out."""
    records: list[dict[str, Any]] = []
    for number, row in rows:
        given = row.get("id")
        name = f"row-{number}" if given in (None, "") else str(given).encode(errors="replace").decode()
        base = {"row": number, "id": name}
        try:
            extra = check_encodable(json.dumps(layout.extra(row), ensure_ascii=False, default=str), "a further column")
            shaped = list(layout.rows(row))
            names = [name] if len(shaped) == 1 else [f"{name}.{part}" for part in range(1, len(shaped) + 1)]
            records += [{**base, "id": n, "extra": extra, **one} for n, one in zip(names, shaped, strict=True)]
        except BadRow as problem:
            records.append({**base, "problem": str(problem)})
    return records


def _render(records: list[dict[str, Any]], tokeniser: Tokeniser) -> list[list[Piece]]:
    """Return what is to be tokenised of the good records; one that the template refuses becomes a problem."""
    rendered = []
    for record in records:
        if "problem" not in record:
            try:
                rendered += tokeniser.render([record])
            except BadRow as problem:
                kept = {name: record[name] for name in ("row", "id")}
                record.clear()
                record |= {**kept, "problem": str(problem)}
    return rendered


def _add_ids(records: list[dict[str, Any]], ids: Any) -> list[dict[str, Any]]:
    """Add token ids and hashes, and turn texts into JSON."""
    good = [record for record in records if "problem" not in record]
    keys, bands = sign([read_said(record["prompt"], [record[n] for n in ANSWERS if n in record]) for record in good])
    for record, found, key, shared in zip(good, ids.result(), keys.tolist(), bands.tolist(), strict=True):
        record |= {**found, **dict(zip(NEAR, (key, *shared), strict=True))}
        prompt, answers = record["prompt"], [name for name in ANSWERS if name in record]
        record |= {name: json.dumps(record[name], ensure_ascii=False) for name in ("prompt", *answers)}
        inputs = {name: record[name] for name in ("tools", "template_kwargs") if name in record}
        if inputs:
            record["template_inputs"] = json.dumps(inputs, ensure_ascii=False)
        record["prompt_key"] = record["heldout_key"] = _hash_text(record["prompt"] + record.get("template_inputs", ""))
        if is_promptless(prompt):
            record["heldout_key"] = _hash_text("".join(record[name] for name in answers))
    return records


def is_promptless(prompt: Messages) -> bool:
    """Tell whether a row is a text without a prompt."""
    return prompt[0]["role"] == "text" and not prompt[0]["content"].strip()


def read_said(prompt: Messages, answers: Iterable[Messages]) -> str:
    """Return what prompts are compared by: all turns but the system's, or the answers of a text without a prompt."""
    messages = [message for answer in answers for message in answer] if is_promptless(prompt) else prompt
    said = "\n".join(str(message["content"]) for message in messages if message["role"] not in ("system", "developer"))
    return said if said.strip() else json.dumps(messages, ensure_ascii=False)


def _hash_text(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)

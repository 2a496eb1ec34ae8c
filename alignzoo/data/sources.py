"""Where rows come from: the hub, files, a folder, or a package's data. Rows are read one by one, with their numbers."""

from __future__ import annotations

import csv
import glob
import hashlib
import importlib.resources
import io
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf

from alignzoo.errors import UserError

Row = dict[str, Any]

FORMATS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}

PACKED = {".gz", ".zst"}  #: JSON, JSONL and CSV files may be compressed


@dataclass(frozen=True)
class Source:
    """A table of rows that can be read from its start any number of times."""

    place: str
    """What to call it in a message: a file or hub id, with its split."""

    identity: str
    """Changes whenever the content does: hash of the files, or hub id, revision and split."""

    rows: Callable[[], Iterator[Row]]


def training_sources(cfg: DictConfig) -> list[tuple[Source, DictConfig]]:
    """Return the sources of ``dataset``'s training rows, each with its own keys: one, or those of ``dataset.mix``."""
    parts: list[Any] = [OmegaConf.merge(cfg, {"weight": None}, part) for part in cfg.mix] if cfg.mix else [cfg]
    key = "dataset.mix: path" if cfg.mix else "dataset.path"
    return [(open_source(p.path, p.split, p.config, p.revision, key, p.first), p) for p in parts]


def heldout_source(cfg: DictConfig) -> Source | None:
    """Return the source of the held-out rows, or None where they are a share of the training rows."""
    if cfg.heldout.path is not None:
        return open_source(cfg.heldout.path, cfg.heldout.split or "train", None, None, "dataset.heldout.path")
    if cfg.heldout.split is not None:
        return open_source(cfg.path, cfg.heldout.split, cfg.config, cfg.revision, "dataset.heldout.split")
    return None


def open_source(
    path: Any, split: str, config: str | None, revision: str | None, key: str, first: int | None = None
) -> Source:
    """Return the source at ``path``: package://, a file, a glob, a folder, a list of files, or a hub id.

    ``first`` bounds the rows read: a hub dataset is then streamed, and never downloaded whole.

    Raises:
        UserError: nothing is there, or a file has no known ending.
    """
    if path is None:
        raise UserError(f"{key} is needed: a file, a folder, or a hub id.")
    files = _files(path, split)
    if files is None:
        return _hub(str(path), split, config, revision, key, first)
    if not files:
        raise UserError(f"{key}={path}: no such file.")
    for file in files:
        if _kind(file) not in FORMATS.values():
            raise UserError(f"{key}: {file.name} is none of {', '.join(FORMATS)} (.json, .jsonl, .csv also .gz, .zst).")
    place = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    rows = lambda: itertools.islice((row for file in files for row in _read(file)), first)  # noqa: E731
    return Source(place, f"{_hash(files)}/{first}", rows)


def _files(path: Any, split: str) -> list[Path] | None:
    """Return the files that ``path`` names, or None where it looks like a hub id."""
    if not isinstance(path, str):
        return [file for part in path for file in _files(part, split) or []]
    if path.startswith("package://"):
        package, _, name = path.removeprefix("package://").partition("/")
        return [Path(str(importlib.resources.files(package).joinpath(name)))]
    local = Path(path).expanduser()
    if local.is_dir():
        found = sorted(file for file in local.rglob("*") if _kind(file))
        return [file for file in found if split in file.stem] or found
    if local.is_file():
        return [local]
    if glob.has_magic(path):
        return [Path(name) for name in sorted(glob.glob(str(local)))]
    looks_local = _kind(local) is not None or path.startswith(("/", ".", "~")) or path.count("/") > 1
    return [] if looks_local else None


def _hash(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _kind(file: Path) -> str | None:
    """Return the format that the file's name shows, or None."""
    packed = file.suffix in PACKED
    kind = FORMATS.get(Path(file.stem).suffix if packed else file.suffix)
    return None if packed and kind in ("parquet", "arrow") else kind


def _read(file: Path) -> Iterator[Row]:
    kind = _kind(file)
    if kind in ("parquet", "arrow"):
        return _arrow(file, str(kind))
    return {"jsonl": _jsonl, "json": _json, "csv": _csv}[str(kind)](file)


@contextmanager
def _open(file: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file, unpacking it on the way."""
    if file.suffix not in PACKED:
        with file.open(encoding="utf-8-sig", newline=newline) as stream:
            yield stream
        return
    import pyarrow

    try:
        with pyarrow.input_stream(str(file), compression="detect") as packed:
            yield io.TextIOWrapper(packed, encoding="utf-8-sig", newline=newline)
    except OSError as error:
        raise UserError(f"{file.name} cannot be unpacked: {str(error).splitlines()[0]}") from None


def _jsonl(file: Path) -> Iterator[Row]:
    with _open(file) as stream:
        for number, line in enumerate(_lines(stream, file), 1):
            if line.strip():
                yield _object(_parsed(line, f"{file.name} line {number}"), f"{file.name} line {number}")


def _lines(stream: Any, file: Path) -> Iterator[str]:
    try:
        yield from stream
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file.name} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8."
        ) from None


def _json(file: Path) -> Iterator[Row]:
    with _open(file) as stream:
        text = "".join(_lines(stream, file))
    if text.lstrip()[:1] == "{" and "\n{" in text.strip():
        yield from _jsonl(file)
        return
    content = _parsed(text, file.name)
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise UserError(
            f"{file.name} holds one {type(content).__name__}; it must hold a list of rows, or one row a line."
        )
    for number, row in enumerate(content, 1):
        yield _object(row, f"{file.name} row {number}")


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{place} is no JSON: {error.msg} at column {error.colno}.") from None
    except RecursionError:
        raise UserError(f"{place} is no row: it is nested too deeply.") from None


def _object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{place} is a {type(row).__name__}; a row must be an object with named columns.")
    return row


def _csv(file: Path) -> Iterator[Row]:
    with _open(file, newline="") as stream:
        reader = csv.DictReader(_lines(stream, file))
        try:
            yield from reader
        except csv.Error as error:
            raise UserError(f"{file.name} line {reader.line_num} is no CSV: {error}.") from None


def _arrow(file: Path, kind: str) -> Iterator[Row]:
    import datasets
    import pyarrow

    try:
        if kind == "arrow":
            yield from datasets.Dataset.from_file(str(file))
            return
        import pyarrow.parquet

        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1000):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{file.name} cannot be read as {kind}: {str(error).splitlines()[0]}") from None


def _hub(path: str, split: str, config: str | None, revision: str | None, key: str, first: int | None) -> Source:
    import datasets

    try:
        streamed = first is not None
        table = datasets.load_dataset(path, config, split=split, revision=revision, streaming=streamed)
    except Exception as error:  # the hub's client raises a dozen kinds
        raise UserError(f"{key}={path} (split {split}): {hub_reason(error)}") from error
    content = table.info.version if streamed else table._fingerprint
    identity = f"{path}@{revision}/{config}/{split}/{content}/{first}"
    return Source(f"{path} ({split})", identity, lambda: itertools.islice(iter(table), first))


def hub_reason(error: Exception) -> str:
    """Say in one line why the hub gave nothing, and what to do."""
    text, kind = str(error), type(error).__name__
    if "offline" in text.lower() or "connect" in text.lower() or kind in {"ConnectError", "LocalEntryNotFoundError"}:
        return "not in the local cache, and the hub cannot be reached. Connect, or name a folder."
    if "gated" in text.lower() or "401" in text or "403" in text:
        return "the hub refuses access: accept its licence on the hub, then `hf auth login`."
    if "404" in text or "doesn't exist" in text or kind in {"DatasetNotFoundError", "RepositoryNotFoundError"}:
        return "neither a local file or folder nor on the hub (or private: `hf auth login`)."
    return f"{kind}: {text.strip().splitlines()[0] if text.strip() else 'no further word'}"

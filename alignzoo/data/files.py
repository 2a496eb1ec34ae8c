"""Reads the rows of one file (JSON, JSONL, CSV, Parquet, Arrow); an error names the line or row."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from alignzoo.data import bounds
from alignzoo.system.errors import UserError
from alignzoo.system.limits import format_bytes
from alignzoo.system.parsing import describe_parser_error

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]

FORMATS = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}

COMPRESSED = {".gz", ".zst"}  #: JSON, JSONL and CSV files may be compressed

#: Columns whose values are not text; CSV has only text.
TYPED = {"label", "labels", "kto_tag", "score", "helpfulness", "preference_strength"}


def format_of(file: Path) -> str | None:
    """Return the format that the file's name shows, or None."""
    packed = file.suffix in COMPRESSED
    kind = FORMATS.get(Path(file.stem).suffix if packed else file.suffix)
    return None if packed and kind in ("parquet", "arrow") else kind


def read(file: Path) -> Iterator[Row]:
    """Yield the file's rows.

    Raises:
        UserError: the file is not what its name says; the text names the line or row.
    """
    kind = format_of(file)
    if kind in ("parquet", "arrow"):
        return _read_arrow(file, str(kind))
    return {"jsonl": _read_jsonl, "json": _read_json, "csv": _read_csv}[str(kind)](file)


@contextmanager
def _open(file: Path) -> Iterator[BinaryIO]:
    """Open a file for its bytes, unpacking it on the way."""
    if file.suffix not in COMPRESSED:
        with file.open("rb") as stream:
            yield stream
        return
    try:
        with file.open("rb") as packed:
            yield io.BufferedReader(bounds.Unpacked(file, packed), bounds.UNPACKED)
    except OSError as error:
        raise UserError(f"{file.name} cannot be unpacked: {str(error).splitlines()[0]}") from None


def _decode_lines(stream: BinaryIO, file: Path, longest: int | None = None) -> Iterator[str]:
    for number, line in enumerate(bounds.read_lines(stream, file, longest), 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file.name} line {number} is not UTF-8 text ({error.reason}): save it as UTF-8."
            ) from None


def _read_jsonl(file: Path) -> Iterator[Row]:
    with _open(file) as stream:
        for number, line in enumerate(_decode_lines(stream, file), 1):
            place = f"{file.name} line {number}"
            if line.strip():
                yield _check_object(_parse_row(line, place), place)


def _read_json(file: Path) -> Iterator[Row]:
    text = _read_whole(file)
    if not text.strip():
        return
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip()[:1] == "{":  # JSON lines under another name
            yield from _read_jsonl(file)
            return
        raise UserError(f"{file.name} line {error.lineno} is not JSON: {error.msg} at column {error.colno}.") from None
    except RecursionError:
        raise UserError(f"{file.name} does not hold rows: it is nested too deeply.") from None
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{file.name} is not JSON: {str(error).split(';')[0]}.") from None
    for number, row in enumerate(_find_rows(content, file), 1):
        yield _check_object(row, f"{file.name} row {number}")


def _read_whole(file: Path) -> str:
    """Return a JSON file's text; before a large one is read, that is said."""
    size, parts = file.stat().st_size, []
    bounds.check_whole(size, file)
    if size > bounds.SHOWN_FROM:
        print(f"Reading {file.name}, {format_bytes(size)} of JSON, as a whole.", file=sys.stderr, flush=True)
    with _open(file) as stream:
        read = 0
        for line in _decode_lines(stream, file, bounds.WHOLE):
            read += len(line)
            bounds.check_whole(read, file)
            parts.append(line)
    return "".join(parts)


def _find_rows(content: Any, file: Path) -> list[Any]:
    """Return the list of rows; of an object that wraps one list of objects beside plain values, that list."""
    if isinstance(content, list):
        return content
    if isinstance(content, dict):
        lists = [v for v in content.values() if isinstance(v, list) and v and all(isinstance(i, dict) for i in v)]
        if len(lists) == 1 and not any("role" in item or "from" in item for item in lists[0]):
            return lists[0]
    kind = type(content).__name__
    raise UserError(f"{file.name} holds one {kind}; it must hold a list of rows, or one row a line.")


def _parse_row(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{place} is not JSON: {error.msg} at column {error.colno}.") from None
    except RecursionError:
        raise UserError(f"{place} is not a row: it is nested too deeply.") from None
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{place} is not JSON: {str(error).split(';')[0]}.") from None


def _check_object(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise UserError(f"{place} is a {type(row).__name__}; a row must be an object with named columns.")
    bounds.check_columns(row, place)
    return row


def _read_csv(file: Path) -> Iterator[Row]:
    with _open(file) as stream:
        lines = csv.reader(_decode_lines(stream, file), strict=True)
        try:
            header = next(lines, [])
            bounds.check_columns(header, f"{file.name} line 1")
            _check_header(header, f"{file.name} line 1")
            for cells in lines:
                if cells and len(cells) != len(header):
                    place = f"{file.name} line {lines.line_num}"
                    raise UserError(f"{place} has {len(cells)} cells; the header has {len(header)}.")
                if cells:
                    yield {name: _parse_cell(name, cell) for name, cell in zip(header, cells, strict=True)}
        except csv.Error as error:
            raise UserError(f"{file.name} line {lines.line_num} is not CSV: {error}.") from None


def _check_header(header: list[str], place: str) -> None:
    for name, count in Counter(header).items():
        if count > 1:
            raise UserError(f"{place} has {count} columns named {name!r}, and a row would hold one: rename the others.")


def _parse_cell(name: str, cell: str) -> Any:
    """Return the value of a cell that is not text: true, false or a number."""
    if name not in TYPED:
        return cell
    try:
        return json.loads(cell.strip().lower())
    except ValueError:
        return cell


def _read_arrow(file: Path, kind: str) -> Iterator[Row]:
    """Yield the rows of a Parquet or Arrow file.

    Nothing is mapped into memory, and each batch is checked before a value of it is read: of a damaged file, Arrow
    takes numbers for addresses, and the process ends.
    """
    try:
        for batch in _open_parquet(file) if kind == "parquet" else _open_arrow(file):
            batch.validate(full=True)
            for row in _decode(batch) if kind == "arrow" else batch.to_pylist():
                yield {name: drop_absent(value) for name, value in row.items()}
    except UserError:
        raise
    except Exception as error:  # of pyarrow's kinds, and of those that datasets raises about what it wrote beside them
        raise UserError(f"{file.name} cannot be read as {kind}: {describe_parser_error(error)}") from None


def drop_absent(value: Any) -> Any:
    """Return ``value`` without the nulls of its objects: Arrow gives every object the fields of all the others."""
    if isinstance(value, dict):
        return {name: drop_absent(one) for name, one in value.items() if one is not None}
    return [drop_absent(one) for one in value] if isinstance(value, list) else value


def _open_parquet(file: Path) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(file) as parquet:
        bounds.check_columns(parquet.schema_arrow, file.name)
        yield from parquet.iter_batches(1000)


def _open_arrow(file: Path) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow

    with pyarrow.OSFile(str(file)) as stream:
        table = pyarrow.ipc.open_stream(stream)
        bounds.check_columns(table.schema, file.name)
        yield from table


def _decode(batch: pyarrow.RecordBatch) -> Iterator[Row]:
    """Yield rows with the values that datasets makes of them, as the file's own schema says."""
    import datasets
    from datasets.table import InMemoryTable

    yield from datasets.Dataset(InMemoryTable.from_batches([batch]))

"""Bounds what is read of a file before it is known to be data: lines, columns, whole JSON files, what unpacks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any, BinaryIO

from alignzoo.system.errors import UserError
from alignzoo.system.limits import format_bytes

LINE = 32 * 2**20  #: bytes of the longest line of JSONL and CSV: eight million tokens of text
COLUMNS = 10_000  #: the most that a row may have
WHOLE = 2**30  #: bytes of the largest JSON file, which takes five times as much memory; JSONL is read line by line
SHOWN_FROM = 200 * 10**6  #: bytes from which on it is said that such a file is read
RATIO = 500  #: the most bytes that one byte may unpack to: texts have 3 to 100, bombs a thousand and more
UNPACKED = 64 * 2**20  #: bytes that are unpacked before the ratio is looked at, and before the first row is read


def read_lines(stream: BinaryIO, file: Path, longest: int | None = None) -> Iterator[bytes]:
    """Yield the lines of ``file``, of at most ``longest`` bytes (:data:`LINE`), with the characters that end them.

    Raises:
        UserError: one is longer.
    """
    longest = LINE if longest is None else longest
    number = 0
    while line := stream.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise UserError(
                f"{file.name} line {number} is longer than {format_bytes(longest)}, which no row of text is.\n"
                "Write one row a line; cut what is longer."
            )
        yield line


def check_columns(row: Sized, place: str) -> None:
    """Refuse a row, or a header, of more than :data:`COLUMNS` columns."""
    if len(row) > COLUMNS:
        raise UserError(
            f"{place} has {len(row):,} columns; at most {COLUMNS:,} are read. Keep those that the training needs."
        )


def check_whole(size: int, file: Path) -> None:
    """Refuse a JSON file of so many bytes, unpacked, that it does not fit in memory as a whole."""
    if size > WHOLE:
        raise UserError(
            f"{file.name} is JSON of more than {format_bytes(WHOLE)}, which would be read as a whole.\n"
            "Save it as JSONL, which is read row by row (jq -c '.[]'); call it .jsonl if it has a row a line already."
        )


class Unpacked(io.RawIOBase):
    """The bytes of a compressed file; one that unpacks to far more than it should ends in an error.

    Reads fill their buffer, so that :data:`UNPACKED` bytes are judged before any of them is seen.
    """

    def __init__(self, file: Path, packed: BinaryIO) -> None:
        import pyarrow

        self.file, self.packed, self.size = file, packed, 0
        self.stream: Any = pyarrow.CompressedInputStream(packed, {".gz": "gzip", ".zst": "zstd"}[file.suffix])

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, but for its end at the end of the file.

        Raises:
            UserError: it unpacks to more than :data:`RATIO` times its size.
        """
        view, filled = memoryview(buffer), 0
        while filled < len(view) and (count := self.stream.readinto(view[filled:])):
            filled += count
        self.size += filled
        if self.size >= UNPACKED and self.size > RATIO * self.packed.tell():
            raise UserError(
                f"{self.file.name} unpacks to more than {RATIO} times its size, which data do not: it was made to fill "
                "a disk or memory.\nIf it is right, unpack it and name the file that comes out."
            )
        return filled

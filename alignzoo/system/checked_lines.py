"""Keeps values by key in a file of checksummed lines, appended as they come: a kill costs one line."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedLines:
    """One such file: a JSON object a line, with the key, the value, and the SHA-256 of both."""

    file: Path
    key: str
    """The name of the key in a line."""

    value: str
    """The name of the value in a line: what JSON can hold."""

    consequence: str
    """What happens where a line is damaged, for the warning."""

    def read(self) -> dict[str, Any]:
        """Return the values by key; lines that a kill tore or somebody changed are named, and count for nothing."""
        known: dict[str, Any] = {}
        damaged = []
        there = self.file.exists()
        lines = self.file.read_text(encoding="utf-8", errors="replace").split("\n") if there else []
        for number, line in enumerate(lines, 1):
            try:
                known |= self._parse_line(line) if line else {}
            except (ValueError, RecursionError):
                damaged.append(number)
        if damaged:
            more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
            told = f"{self.file} line {damaged[0]}{more} is not what was written"
            log.warning("%s: %s", told, self.consequence)
        return known

    def append(self, found: Mapping[str, Any]) -> None:
        """Add whole lines in one write, on a line of their own even behind a torn one."""
        text = "".join(f"{self._make_line(key, value)}\n" for key, value in found.items())
        with self.file.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, 2)
                text = text if stream.read(1) == b"\n" else f"\n{text}"
            stream.write(text.encode())

    def _parse_line(self, line: str) -> dict[str, Any]:
        """Return the value that stands in a line, by key.

        Raises:
            ValueError: the line is not as :meth:`_make_line` has written it.
        """
        found = json.loads(line)
        if not isinstance(found, dict) or line != self._make_line(str(found.get(self.key)), found.get(self.value)):
            raise ValueError("changed")
        return {found[self.key]: found[self.value]}

    def _make_line(self, key: str, value: Any) -> str:
        """Return the line of one value, with its own checksum."""
        return json.dumps({self.key: key, self.value: value, "sha256": hash_json([key, value])})


def hash_json(content: Any) -> str:
    """Return the SHA-256 of what JSON makes of ``content``, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

"""Reads the keys of a YAML file with the comments above them, which YAML's parser drops."""

from __future__ import annotations

import re
from dataclasses import dataclass

KEY = re.compile(r"^(?P<indent> *)(?P<name>[\w./-]+|\"[^\"]+\"):(?: +(?P<value>.*))?$")


@dataclass(frozen=True)
class Key:
    """One key: its dotted path, its value as written ('' where keys follow below it), and the comment above it."""

    path: str
    value: str
    comment: str

    def __str__(self) -> str:
        return self.path


def read_keys(text: str) -> list[Key]:
    """Return the keys of a YAML mapping in their order, nested ones with dotted paths; lists are left as values."""
    found: list[Key] = []
    above: list[tuple[int, str]] = []  # the keys that the current line is below of, with their indentation
    comment: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip().lstrip("#").strip())
            continue
        match = KEY.match(line)
        if match:
            indent = len(match["indent"])
            above = [(depth, name) for depth, name in above if depth < indent] + [(indent, match["name"].strip('"'))]
            value = re.sub(r"(^|\s)#.*$", "", match["value"] or "").strip()
            found.append(Key(".".join(name for _, name in above), value, " ".join(comment)))
        comment = []
    return found


def read_heading(text: str) -> str:
    """Return the comment at the top of a file, which says what the option is; '' where there is none."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("#").strip())
    return " ".join(lines)

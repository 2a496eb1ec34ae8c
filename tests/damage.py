"""What may happen to a file on a disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def flip(file: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


#: Each leaves the others of its folder as they are.
DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit": flip,
    "half": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\n"),
    "missing": Path.unlink,
}

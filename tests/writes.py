"""Counts what a process writes below a folder, and disturbs one of these writes: what tests/shims/writes.c does."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from repository import ROOT

#: What takes room on a disk, or waits for it; what is removed is the rest.
TAKES_ROOM = ("open", "write", "mkdir", "rename", "fsync")


@dataclass(frozen=True)
class Write:
    """One of the things that a process did to a folder, with its number, from 1."""

    number: int
    what: str
    path: Path


@cache
def build_shim() -> Path | None:
    """Return the library that LD_PRELOAD takes; None where there is no compiler, or none of Linux."""
    if not shutil.which("cc"):
        return None
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "writes.so"
    command = ["cc", "-O1", "-fPIC", "-shared", "-o", str(library), str(ROOT / "tests/shims/writes.c"), "-ldl"]
    return None if subprocess.run(command, capture_output=True, check=False).returncode else library


def count_in(below: Path, log: Path) -> dict[str, str]:
    """Return the variables with which a process lists in ``log`` all that it writes below the folder."""
    return {"WRITES_BELOW": str(below), "WRITES_LOG": str(log)}


def disturb_at(number: int, how: str, below: Path, log: Path) -> dict[str, str]:
    """Return the variables with which one write ends as ``how`` says: once, full, kill; ``log`` then names it."""
    return {**count_in(below, log), "WRITES_AT": str(number), "WRITES_HOW": how}


def read_writes(log: Path) -> list[Write]:
    lines = log.read_text(errors="surrogateescape").splitlines() if log.exists() else []
    return [Write(int(number), what, Path(path)) for number, what, path in (line.split(" ", 2) for line in lines)]

"""Runs the command line in the test's own process: importing TRL takes seconds, a run on `tiny` takes one."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignzoo.cli import main


@dataclass(frozen=True)
class Outcome:
    """What one command did: its run folder, exit code, output, and the environment variables that it left changed."""

    folder: Path
    code: int
    out: str
    err: str
    changed: set[str]

    def result(self) -> dict[str, Any]:
        """Return result.json."""
        return dict(json.loads((self.folder / "result.json").read_text()))

    def metrics(self) -> list[dict[str, Any]]:
        """Return metrics.jsonl."""
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]


def run(folder: Path, *words: str) -> Outcome:
    """Run ``alignzoo WORDS`` with ``folder`` as run folder, or as sweep folder where the words hold ``-m``."""
    kind = "sweep" if "-m" in words else "run"
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    with _restored(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _code(*words, f"hydra.{kind}.dir={folder}")
        changed = {name for name in os.environ.keys() | before.keys() if os.environ.get(name) != before.get(name)}
    return Outcome(folder, code, out.getvalue(), err.getvalue(), changed)


def _code(*words: str) -> int:
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Take back what the command line does to its process."""
    root, variables, argv = logging.getLogger(), dict(os.environ), sys.argv
    handlers, level = list(root.handlers), root.level
    sys.argv = ["alignzoo"]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.argv = argv
        root.handlers[:], root.level = handlers, level
        os.environ.clear()
        os.environ.update(variables)

"""Counts the lines that the programs of the tests run, where SlipCover counts those of the tests themselves."""

from __future__ import annotations

import atexit
import json
import os
from pathlib import Path

ROOT = Path(__file__).parents[3]


def count_lines(folder: Path) -> None:
    """Write what this process has run to ``folder`` when it ends, where SlipCover merges it with the rest."""
    import slipcover

    lines = slipcover.Slipcover(exclude_lines=os.environ.get("SLIPCOVER_EXCLUDE_LINES", "").split("\n"))
    own = slipcover.FileMatcher(sources=[str(ROOT / name) for name in ("alignzoo", "plugins")])
    slipcover.ImportManager(lines, own).__enter__()

    def write() -> None:
        found = json.dumps(lines.get_coverage())
        if folder.is_dir():
            (folder / f"coverage-gw-{os.getpid()}.json").write_text(found, encoding="utf-8")

    atexit.register(write)


if os.environ.get("SLIPCOVER_COVERAGE_DIR") and "PYTEST_XDIST_WORKER" in os.environ:
    count_lines(Path(os.environ["SLIPCOVER_COVERAGE_DIR"]))

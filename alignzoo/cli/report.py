"""``python -m alignzoo report FOLDER...``: runs compared, on the terminal and as a page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(words: Sequence[str]) -> int:
    """Print the leaderboard of the runs in the folders, and write it; return 1 if a run has no result, else 0."""
    parser = argparse.ArgumentParser(prog="alignzoo report", description="Runs compared: a leaderboard.")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a sweep's folder, or run folders")
    parser.add_argument("--by", metavar="METRIC", help="number to sort by (default: the runs' evaluate.objective)")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write (default: the one FOLDER, else here)"
    )
    options = parser.parse_args(words)
    from alignzoo.report.leaderboard.files import write_leaderboard
    from alignzoo.report.leaderboard.table import print_leaderboard

    out = options.out or (options.folders[0] if len(options.folders) == 1 else Path("."))
    board = write_leaderboard(options.folders, out, options.by)
    print_leaderboard(board)
    print(f"page: {out / 'leaderboard.html'}")
    return int(bool(board.failed))

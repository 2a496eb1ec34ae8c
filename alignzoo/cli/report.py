"""``python -m alignzoo report``: compares runs in a leaderboard, on the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from alignzoo.cli.options import FILE, PATH, WORD


@click.command
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...", type=PATH)
@click.option("--by", type=WORD, metavar="METRIC", help="Number to sort by (default: the runs' evaluate.objective).")
@click.option("--against", type=WORD, metavar="SETTING", help="Compare all with this one, and not with the best.")
@click.option(
    "--within",
    type=click.FloatRange(min=0, min_open=True),
    metavar="D",
    help="Call settings equal whose difference is surely below D (of percentages: points).",
)
@click.option(
    "--out", type=FILE, metavar="FOLDER", help="Where to write (default: the one FOLDER, else the current folder)."
)
def command(
    folders: Sequence[Path], by: str | None, against: str | None, within: float | None, out: Path | None
) -> int:
    """Compare runs in a leaderboard: those in each FOLDER, which is a sweep's or a run's.

    The differences' intervals hold together at 95 %: they are corrected for the number of comparisons.

    The exit code is 1 if a run has no result.
    """
    from alignzoo.report.leaderboard.files import write_leaderboard
    from alignzoo.report.leaderboard.table import print_leaderboard

    out = out or (folders[0] if len(folders) == 1 else Path("."))
    board = write_leaderboard(folders, out, by, against, within)
    print_leaderboard(board)
    print(f"page: {out / 'leaderboard.html'}")
    return int(bool(board.failed))

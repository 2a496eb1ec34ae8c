"""Writes a leaderboard: the page, the tables and the plots."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from alignzoo.report.leaderboard.board import Leaderboard, read_leaderboard
from alignzoo.report.leaderboard.page import write_page
from alignzoo.report.leaderboard.plots import draw_plots
from alignzoo.report.leaderboard.table import make_frame
from alignzoo.runs.folder import PLOTS
from alignzoo.system.errors import UserError
from alignzoo.system.tables import write_csv


def write_leaderboard(
    folders: Sequence[Path],
    out: Path,
    by: str | None = None,
    against: str | None = None,
    within: float | None = None,
) -> Leaderboard:
    """Write ``leaderboard.html``, ``.csv``, ``.parquet`` and the plots as PNG files into ``out``; return the board.

    Raises:
        UserError: as :func:`read_leaderboard`, or ``out`` cannot be written.
    """
    board = read_leaderboard(folders, by, against, within)
    try:
        out.mkdir(parents=True, exist_ok=True)
        table = make_frame(board)
        write_csv(table, out / "leaderboard.csv")
        table.to_parquet(out / "leaderboard.parquet", index=False)
        write_page(board, draw_plots(board, out / PLOTS), out / "leaderboard.html")
    except OSError as error:
        told = f"the leaderboard cannot be written to {out} ({error.strerror or error})"
        names = shlex.join(map(str, folders))
        raise UserError(f"{told}.\nFree some, or write it elsewhere: alignzoo report {names} --out FOLDER") from None
    return board

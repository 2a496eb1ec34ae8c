"""``python -m alignzoo manifest RUN_A RUN_B``: whether two runs used the same rows and tokens, and which differ."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.data import manifest
from alignzoo.system.errors import UserError
from alignzoo.system.tables import plain_table

if TYPE_CHECKING:
    import pandas as pd


def main(words: Sequence[str]) -> int:
    """Print the rows that differ; return 0 if none does, else 1."""
    parser = argparse.ArgumentParser(prog="alignzoo manifest", description="The rows of two runs, compared.")
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="run folders")
    parser.add_argument("--most", type=int, default=20, help="rows to print (default 20)")
    options = parser.parse_args(words)
    if options.most < 0:
        parser.error("--most must be 0 or more")
    different = manifest.differences(*map(_read, options.runs))
    if not len(different):
        print("same rows, same tokens")
        return 0
    _print(different, options.most, [run.name for run in options.runs])
    return 1


def _read(run: Path) -> pd.DataFrame:
    if not (run / manifest.FILE).is_file():
        raise UserError(f"{run} is no run folder: it has no {manifest.FILE}.")
    try:
        found = manifest.read(run)
    except (OSError, ValueError) as error:
        raise UserError(f"{run / manifest.FILE} cannot be read: {error}") from None
    if not {*manifest.IDENTITY, "decision", "reason", "tokens"} <= set(found.columns):
        raise UserError(f"{run} is no run folder: its {manifest.FILE} is not the manifest of a run.")
    return found


def _print(different: pd.DataFrame, most: int, names: Sequence[str]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)  # names and reasons are the dataset's, brackets and all
    table = plain_table("source", "row", "id", *names)
    for column in table.columns:
        column.overflow = "fold"  # a word wider than its column is broken, not cut
    for _, row in different.head(most).iterrows():
        a, b = _told(row["decision_a"], row["reason_a"]), _told(row["decision_b"], row["reason_b"])
        tokens = " (other tokens)" if a == b else ""
        table.add_row(row["source"], str(row["row"]), row["id"], a, b + tokens)
    console.print(table)
    console.print(
        f"{len(different):,} rows differ" + (f"; the first {most} are shown" if len(different) > most else "")
    )


def _told(decision: object, reason: object) -> str:
    if not isinstance(decision, str):
        return "not read"
    return f"{decision}: {reason}" if reason else decision

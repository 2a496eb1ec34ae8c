"""``python -m alignzoo manifest``: shows the rows and tokens in which two runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alignzoo.cli.options import PATH
from alignzoo.data import manifest
from alignzoo.system.errors import UserError
from alignzoo.system.parsing import describe_parser_error
from alignzoo.system.tables import plain_table

if TYPE_CHECKING:
    import pandas as pd


@click.command
@click.argument("runs", nargs=2, metavar="RUN RUN", type=PATH)
@click.option("--most", type=click.IntRange(0), default=20, show_default=True, help="Rows to print.")
def command(runs: Sequence[Path], most: int) -> int:
    """Show the rows in which two run folders differ; the exit code is 1 if there are any."""
    different = manifest.differences(*map(read_manifest, runs))
    if not len(different):
        print("same rows, same tokens")
        return 0
    _print(different, most, [run.name for run in runs])
    return 1


def read_manifest(run: Path) -> pd.DataFrame:
    """Return the manifest in a run folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if not (run / manifest.FILE).is_file():
        raise UserError(f"{run} is not a run folder: it has no {manifest.FILE}.")
    try:
        found = manifest.read(run)
    except Exception as error:  # of a dozen kinds, for a file that is not Parquet or is cut
        raise UserError(f"{run / manifest.FILE} cannot be read: {describe_parser_error(error)}.") from None
    if not _is_manifest(found):
        raise UserError(f"{run} is not a run folder: its {manifest.FILE} is not the manifest of a run.")
    return found


def _is_manifest(table: pd.DataFrame) -> bool:
    from pandas.api.types import is_integer_dtype, is_string_dtype

    texts = {*manifest.IDENTITY, "decision", "reason", "tokens"} - {"row"}
    columns = [str(column) for column in table.columns]
    return (
        {*texts, "row"} <= set(columns)
        and len({*columns}) == len(columns)
        and (is_integer_dtype(table["row"]) and all(is_string_dtype(table[name]) for name in texts))
    )


def _print(different: pd.DataFrame, most: int, names: Sequence[str]) -> None:

    from alignzoo.system.console import make_console

    console = make_console()
    table = plain_table("source", "row", "id", *names)
    for column in table.columns:
        column.overflow = "fold"  # a word wider than its column is broken, not cut
    for _, row in different.head(most).iterrows():
        a, b = _decision(row["decision_a"], row["reason_a"]), _decision(row["decision_b"], row["reason_b"])
        tokens = " (other tokens)" if a == b else ""
        table.add_row(row["source"], str(row["row"]), row["id"], a, b + tokens)
    console.print(table)
    console.print(
        f"{len(different):,} rows differ" + (f"; the first {most} are shown" if len(different) > most else "")
    )


def _decision(decision: object, reason: object) -> str:
    if not isinstance(decision, str):
        return "not read"
    return f"{decision}: {reason}" if reason else decision

"""Shows a leaderboard as a table: on the terminal, as a data frame for files, and for a tracker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import Estimate
from alignzoo.report.leaderboard.alignment_tax import make_tax_cells, print_tax
from alignzoo.report.leaderboard.board import Failed, Leaderboard
from alignzoo.report.leaderboard.rows import Row
from alignzoo.system.tables import plain_table, to_unicode

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text

#: Numbers beside the one that the board is sorted by: they show what it may have cost.
BESIDE = (
    "win_rate",
    "win_rate_lc",
    "win_rate_second",
    "preference_accuracy",
    "kl",
    "answer_tokens",
    "ended",
    "distinct_3",
    "reward_accuracy",
)

#: Those of them that a narrow terminal leaves out: what stands under the table says where they fell, or judges differ.
WARNED = ("ended", "distinct_3", "win_rate_second")
WIDE = 100  #: columns of a terminal that has room for all


def choose_columns(board: Leaderboard, width: int = WIDE) -> list[str]:
    """Return the numbers that tables of so many columns show beside the board's own, if they were measured."""
    fitting = [key for key in BESIDE if width >= WIDE or key not in WARNED]
    return [key for key in fitting if key != board.by and any(key in row.numbers for row in board.rows)]


def describe_difference(row: Row, by: str) -> str:
    """Return the difference to the best, or to the baseline, as tables show it: percentages differ by points."""
    if row.difference is None:
        return "best" if row.best else "baseline" if row.baseline else "not compared" if by in row.numbers else ""
    if row.equal:
        return "equal"
    form, value = NUMBERS[by].form, row.difference.value
    text = (
        f"{100 * value:+.0f} points"
        if form.endswith("%}")
        else form.replace(":+", ":").replace(":", ":+").format(value)
    )
    if row.equivalent:
        return f"{text}, equal"
    return f"{text}, within noise" if row.noise else text


def format_difference_interval(row: Row, by: str) -> str:
    """Return the ends of the difference's simultaneous interval, of percentages in points; empty without one."""
    if row.difference is None:
        return ""
    form, scale = NUMBERS[by].form, 1.0
    if form.endswith("%}"):
        form, scale = "{:.0f}", 100.0
    signed = form.replace(":+", ":").replace(":", ":+")
    return f"{signed.format(scale * row.difference.low)} to {signed.format(scale * row.difference.high)}"


def list_warnings(row: Row) -> list[str]:
    """Return what a reader must know before believing a row."""
    kept = f"kept out of the verdict: {row.kept_out}" if row.kept_out else ""
    other = f"other {row.other_data}" if row.other_data else ""
    return [warning for warning in (row.collapsed.full if row.collapsed else "", other, kept) if warning]


def print_leaderboard(board: Leaderboard) -> None:
    """Print the table, its warnings, the runs without a result, and the verdict."""
    from rich.text import Text

    from alignzoo.system.console import make_console

    console = make_console()
    if board.rows:
        beside = choose_columns(board, console.width)
        table = plain_table(*_name_columns(board, beside), collapse_padding=True)
        table.columns[0].overflow = "fold"  # a setting wider than its column is broken, not cut
        for column in table.columns[1:]:
            column.justify, column.no_wrap = "right", True
        for row in board.rows:
            table.add_row(*_make_cells(row, board, beside))
        console.print(table)
    for row in board.rows:
        for warning in list_warnings(row):
            console.print(Text(f"{row.name}: {warning}", style="yellow"), soft_wrap=True)
    for note in board.notes:
        console.print(Text(note, style="yellow"), soft_wrap=True)
    for failed in board.failed:
        console.print(Text(f"failed: {failed.name}: {failed.reason}"), soft_wrap=True)
    for pruned in board.pruned:
        console.print(Text(f"{pruned.name}: {pruned.reason}", style="dim"), soft_wrap=True)
    for line in board.generated:
        console.print(Text(f"generated: {line}"), soft_wrap=True)
    if any(row.seeds > 1 for row in board.rows):
        console.print("x2, x3: mean over as many seeds")
    for limit in board.limits:
        console.print(Text(limit, style="dim"), soft_wrap=True)
    print_tax(board.tax)
    console.print(Text(board.verdict, style="bold"), soft_wrap=True)


def _name_columns(board: Leaderboard, beside: Sequence[str]) -> list[str]:
    shorts = [NUMBERS[key].short for key in beside]
    return [
        "setting",
        f"{NUMBERS[board.by].short} (95 %)",
        f"to {board.question.against or 'best'}",
        *shorts,
        "seconds",
    ]


def _make_cells(row: Row, board: Leaderboard, beside: Sequence[str]) -> list[Text]:
    from rich.text import Text

    found = row.numbers.get(board.by)
    form = NUMBERS[board.by].form
    interval = format_interval(found, form) if found else ""
    if not found or found.low >= 0:
        interval = interval.replace(" to ", "-")
    value = f"{form.format(found.value)} ({interval})" if found else ""
    name = f"{row.name} x{row.seeds}" if row.seeds > 1 else row.name
    difference = describe_difference(row, board.by).replace(" points", "").replace(", within noise", " (noise)")
    cells = [name, value, difference, *(format_number(row, key) for key in beside), format_seconds(row)]
    return [Text(cell, style="bold" if row.best else "") for cell in cells]


def format_interval(found: Estimate, form: str) -> str:
    """Return an interval's ends; the unit stands once."""
    low, high = form.format(found.low), form.format(found.high)
    return f"{low.removesuffix('%')} to {high}"


def format_number(row: Row, key: str) -> str:
    """Return one of a row's numbers as tables show it, empty where it was not measured."""
    return NUMBERS[key].form.format(row.numbers[key].value) if key in row.numbers else ""


def format_seconds(row: Row) -> str:
    """Return the seconds of training, empty where they are not known."""
    return f"{row.cost['train_seconds']:,.0f}" if "train_seconds" in row.cost else ""


def make_frame(board: Leaderboard) -> pd.DataFrame:
    """Return the whole board, failed runs last: each number with ``_low`` and ``_high``, in its own unit.

    ``difference`` is of the board's number, to the best setting or the baseline, its interval simultaneous with the
    others'; ``within_noise`` and ``equal`` (within the asked difference) are empty where there is none.
    """
    import pandas as pd

    rows = [_record(place, row, board) for place, row in enumerate(board.rows, 1)]
    rows += [_make_record(pruned, "pruned") for pruned in board.pruned]
    rows += [_make_record(failed, "failed") for failed in board.failed]
    table = pd.DataFrame([{to_unicode(key): to_unicode(value) for key, value in row.items()} for row in rows])
    kinds = {
        "rank": "Int64",
        "seeds": "Int64",
        "within_noise": "boolean",
        "equal": "boolean",
        "best": "boolean",
        "baseline": "boolean",
    }
    return table.astype({name: kind for name, kind in kinds.items() if name in table.columns})


def _record(place: int, row: Row, board: Leaderboard) -> dict[str, Any]:
    found = row.difference
    ends = ("difference", "difference_low", "difference_high")
    parts = (found.value, found.low, found.high) if found else (None,) * 3
    record = {
        "rank": place,
        "method": row.method,
        "setting": row.setting,
        "seeds": row.seeds,
        "status": "finished",
        "best": row.best,
        "baseline": row.baseline,
        **dict(zip(ends, parts, strict=True)),
        "within_noise": row.noise,
        "equal": None if row.difference is None else row.equal or row.equivalent,
        "kept_out": row.kept_out,
        "validation": row.validation.get(board.by),
        "selected_on": ", ".join(sorted({(run.result or {}).get("selected_on", "") for run in row.runs})),
        "warning": "; ".join(list_warnings(row)),
        **{f"{key}{end}": value for key, one in row.numbers.items() for end, value in _ends(one).items()},
    }
    record |= make_tax_cells(board.tax, row.name)
    more = {key: value for key, value in row.cost.items() if key not in record}
    return {**record, **more, "folders": " ".join(str(run.folder) for run in row.runs)}


def _ends(found: Estimate) -> dict[str, float]:
    return {"": found.value, "_low": found.low, "_high": found.high}


def _make_record(failed: Failed, status: str) -> dict[str, Any]:
    more = {"status": status, "warning": failed.reason, "folders": str(failed.folder)}
    return {"rank": None, "method": failed.method, "setting": failed.setting, "best": False, "baseline": False, **more}


def make_wandb_table(board: Leaderboard) -> dict[str, Any]:
    """Return ``columns`` and ``data`` of the board, as ``wandb.Table`` takes them."""
    table = make_frame(board)
    data = [[None if _missing(value) else value for value in row] for row in table.astype(object).to_numpy().tolist()]
    return {"columns": list(table.columns), "data": data}


def _missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.isna(value))

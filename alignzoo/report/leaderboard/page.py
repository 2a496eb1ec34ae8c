"""Writes the leaderboard as one HTML page that opens without a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.html import write_html
from alignzoo.report.leaderboard import draw
from alignzoo.report.leaderboard.alignment_tax import describe_tax, list_names
from alignzoo.report.leaderboard.board import Leaderboard
from alignzoo.report.leaderboard.curves import draw_reading
from alignzoo.report.leaderboard.plots import Plot
from alignzoo.report.leaderboard.reading import Reading, find_readings
from alignzoo.report.leaderboard.rows import Row
from alignzoo.report.leaderboard.table import (
    choose_columns,
    describe_difference,
    format_difference_interval,
    format_interval,
    format_number,
    format_seconds,
    list_warnings,
)
from alignzoo.report.leaderboard.verdict import describe_within

SHOWN = 6  #: curves in the plot beside a reading


@dataclass(frozen=True)
class ReadingSection:
    """One reading with its plot and the settings in which it happened."""

    question: str
    answer: str
    seen: Sequence[tuple[Row, str]]
    svg: str


def write_page(board: Leaderboard, plots: Sequence[Plot], file: Path) -> None:
    """Write the page."""
    palette = draw.Palette(run.method for run in board.runs)
    write_html(
        "leaderboard/page.html.jinja",
        file,
        board=board,
        number=NUMBERS[board.by],
        numbers={key: number for key, number in NUMBERS.items() if any(key in row.numbers for row in board.rows)},
        beside=choose_columns(board),
        bars=_place_bars(board),
        plots=plots,
        readings=list(make_sections(board, palette)),
        palette=palette,
        light=draw.LIGHT,
        dark=draw.DARK,
        list_warnings=list_warnings,
        describe_difference=describe_difference,
        format_interval=format_interval,
        format_difference_interval=format_difference_interval,
        format_number=format_number,
        format_seconds=format_seconds,
        short=NUMBERS,
        within=describe_within(board.question),
        tax=board.tax,
        tax_names=list_names(board.tax),
        tax_notes=describe_tax(board.tax),
    )


def make_sections(board: Leaderboard, palette: draw.Palette) -> Iterator[ReadingSection]:
    """Yield each reading once, with all settings in which it happened, read from their first seed."""
    found: dict[str, list[tuple[Row, Reading]]] = defaultdict(list)
    for row in board.rows:
        for reading in find_readings(row.runs[0].history, row.runs[0].result or {}):
            found[reading.question].append((row, reading))
    for number, (question, members) in enumerate(found.items()):
        alike = [(row.method, reading) for row, reading in members if reading.label == members[0][1].label]
        drawn = draw.make_svg(draw_reading(alike[:SHOWN], palette), f"reading-{number}")
        yield ReadingSection(question, members[0][1].answer, [(row, reading.seen) for row, reading in members], drawn)


def _place_bars(board: Leaderboard) -> dict[str, Any]:
    """Return where each row's interval lies, in percent of the widest: a picture in the table."""
    known = {row.name: row.numbers[board.by] for row in board.rows if board.by in row.numbers}
    low = min((found.low for found in known.values()), default=0.0)
    wide = max((found.high for found in known.values()), default=1.0) - low or 1.0
    return {
        name: {
            "low": _to_percent(found.low, low, wide),
            "value": _to_percent(found.value, low, wide),
            "high": _to_percent(found.high, low, wide),
        }
        for name, found in known.items()
    }


def _to_percent(value: float, low: float, wide: float) -> float:
    return round(100 * (value - low) / wide, 1)

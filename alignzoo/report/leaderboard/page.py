"""The leaderboard as one HTML page that opens without a network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.html import write_html
from alignzoo.report.leaderboard import draw
from alignzoo.report.leaderboard.board import Leaderboard
from alignzoo.report.leaderboard.curves import reading_figure
from alignzoo.report.leaderboard.plots import Plot
from alignzoo.report.leaderboard.reading import Reading, read_curves
from alignzoo.report.leaderboard.rows import Row
from alignzoo.report.leaderboard.table import (
    columns_of,
    marks,
    told_difference,
    told_interval,
    told_number,
    told_seconds,
)

SHOWN = 6  #: curves in the plot beside a reading


@dataclass(frozen=True)
class Told:
    """A reading with the settings in which it happened and its plot."""

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
        beside=columns_of(board),
        bars=_bars(board),
        plots=plots,
        readings=list(readings(board, palette)),
        palette=palette,
        light=draw.LIGHT,
        dark=draw.DARK,
        marks=marks,
        told_difference=told_difference,
        told_interval=told_interval,
        told_number=told_number,
        told_seconds=told_seconds,
        short=NUMBERS,
    )


def readings(board: Leaderboard, palette: draw.Palette) -> Iterator[Told]:
    """Yield each reading once, with all settings in which it happened, told for their first seed."""
    found: dict[str, list[tuple[Row, Reading]]] = defaultdict(list)
    for row in board.rows:
        for reading in read_curves(row.runs[0].history, row.runs[0].result or {}):
            found[reading.question].append((row, reading))
    for number, (question, members) in enumerate(found.items()):
        alike = [(row.method, reading) for row, reading in members if reading.label == members[0][1].label]
        drawn = draw.svg(reading_figure(alike[:SHOWN], palette), f"reading-{number}")
        yield Told(question, members[0][1].answer, [(row, reading.seen) for row, reading in members], drawn)


def _bars(board: Leaderboard) -> dict[str, Any]:
    """Return where each row's interval lies, in percent of the widest: a picture in the table."""
    known = {row.name: row.numbers[board.by] for row in board.rows if board.by in row.numbers}
    low = min((found.low for found in known.values()), default=0.0)
    wide = max((found.high for found in known.values()), default=1.0) - low or 1.0
    return {
        name: {
            "low": _share(found.low, low, wide),
            "value": _share(found.value, low, wide),
            "high": _share(found.high, low, wide),
        }
        for name, found in known.items()
    }


def _share(value: float, low: float, wide: float) -> float:
    return round(100 * (value - low) / wide, 1)

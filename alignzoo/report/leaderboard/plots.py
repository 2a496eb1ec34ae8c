"""Draws the leaderboard's plots: the number against each swept parameter, KL, and cost."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.config.keys import key_of
from alignzoo.config.metrics import NUMBERS
from alignzoo.report.leaderboard import draw
from alignzoo.report.leaderboard.board import Leaderboard
from alignzoo.report.leaderboard.curves import make_curve_figures
from alignzoo.report.leaderboard.rows import Row
from alignzoo.runs.contents import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 10  #: settings up to which each point is named; beyond, those that no other beats
CAPTIONS = {
    "high": "Up and left is better: more for less distance from the start model. No setting beats those on the grey "
    "line in both.",
    "low": "Down and left is better: less for less distance from the start model.",
    "": "Left is closer to the start model.",
}


@dataclass(frozen=True)
class Plot:
    """One plot: the name of its file, what it shows, how to read it, and the figure as an SVG element."""

    name: str
    title: str
    caption: str
    svg: str


def draw_plots(board: Leaderboard, folder: Path) -> list[Plot]:
    """Write each plot as ``folder/NAME.png``, and return them for the page."""
    palette = draw.Palette(run.method for run in board.runs)
    plots = []
    for name, title, caption, figure in (*make_figures(board, palette), *make_curve_figures(board, palette)):
        draw.save_png(figure, folder / f"{name}.png")
        plots.append(Plot(name, title, caption, draw.make_svg(figure, name)))
    return plots


def make_figures(board: Leaderboard, palette: draw.Palette) -> Iterator[tuple[str, str, str, Figure]]:
    """Yield name, title, caption and figure of each plot that has two points or more."""
    rows = [row for row in board.rows if board.by in row.numbers]
    label = NUMBERS[board.by].label
    for key in find_swept(rows):
        name = re.sub(r"[^\w.-]", "_", key)  # it names a file
        figure = _draw_parameter(rows, key, board.by, palette)
        yield f"by-{name}", f"{label} against {key}", "One line per method; bars are 95 % intervals.", figure
    if board.by != "kl" and sum("kl" in row.numbers for row in rows) > 1:
        yield (
            "frontier",
            f"{label} against KL",
            f"{CAPTIONS[NUMBERS[board.by].better]} Dashed: the start model.",
            _draw_frontier(rows, board.by, palette),
        )
    if sum("train_seconds" in row.cost for row in rows) > 1:
        yield (
            "cost",
            f"{label} against cost",
            "Seconds of training, mean over seeds.",
            _draw_cost(rows, board.by, palette),
        )


def find_swept(rows: Sequence[Row]) -> list[str]:
    """Return the numeric settings that a command set and that differ between runs of one method."""
    runs = [run for row in rows for run in row.runs]
    asked = dict.fromkeys(key_of(word) for run in runs for word in run.overrides)
    return [key for key in asked if key not in ("seed", "method") and _varies(rows, key)]


def _varies(rows: Sequence[Row], key: str) -> bool:
    values = defaultdict(set)
    for row in rows:
        if is_number(value := row.runs[0].config.get(key)):
            values[row.method].add(value)
    return any(len(found) > 1 for found in values.values())


def _draw_parameter(rows: Sequence[Row], key: str, by: str, palette: draw.Palette) -> Figure:
    figure, axes = draw.new_figure()
    lines: dict[tuple[str, str], list[tuple[float, Row]]] = defaultdict(list)
    for row in rows:
        value = row.runs[0].config.get(key)
        if is_number(value):
            lines[row.method, _drop_key(row.setting, key)].append((float(value), row))
    draw.name_axes(axes, key, NUMBERS[by].label)
    draw.scale_y(axes, NUMBERS[by].form)
    draw.scale_x(axes, [value for line in lines.values() for value, _ in line], at_values=True)
    ends = []
    for (method, rest), line in lines.items():
        line.sort(key=lambda point: point[0])
        _draw_bars(axes, line, by, palette)
        axes.plot([x for x, _ in line], [row.numbers[by].value for _, row in line], color=palette.colour(method))
        x, last = line[-1]
        ends.append((x, last.numbers[by].value, f"{method} {rest}".strip(), palette.colour(method)))
    draw.label_ends(axes, ends)
    return figure


def _drop_key(setting: str, key: str) -> str:
    return " ".join(
        word for word in setting.split() if word.partition("=")[0] not in (key, key.removeprefix("method."))
    )


def _draw_bars(axes: Axes, points: Sequence[tuple[float, Row]], by: str, palette: draw.Palette) -> None:
    """Draw points with their intervals; hollow where the setting collapsed."""
    for x, row in points:
        found, colour = row.numbers[by], palette.colour(row.method)
        ends = [[max(0.0, found.value - found.low)], [max(0.0, found.high - found.value)]]
        face = "none" if row.collapsed else colour
        axes.errorbar(
            [x], [found.value], yerr=ends, color=colour, elinewidth=1.2, capsize=0, alpha=0.45, fmt="none", zorder=1
        )
        axes.plot([x], [found.value], palette.marker(row.method), color=colour, markerfacecolor=face, markersize=7)


def _draw_frontier(rows: Sequence[Row], by: str, palette: draw.Palette) -> Figure:
    figure, axes = draw.new_figure()
    points = [(row.numbers["kl"].value, row) for row in rows if "kl" in row.numbers]
    draw.name_axes(axes, NUMBERS["kl"].label, NUMBERS[by].label)
    draw.scale_y(axes, NUMBERS[by].form)
    draw.scale_x(axes, [x for x, _ in points], at_values=False)
    best = _find_unbeaten(points, by)
    if NUMBERS[by].better == "high":
        xs, ys = [x for x, _ in best], [row.numbers[by].value for _, row in best]
        axes.step(xs, ys, where="post", color=draw.FAINT, linewidth=1.2, zorder=0)
    _draw_bars(axes, points, by, palette)
    axes.axhline(points[0][1].before[by], color=draw.FAINT, linewidth=1, linestyle=(0, (2, 3)), zorder=0)
    if axes.get_xscale() == "linear":
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
    _name_points(axes, points, [row for _, row in best], by, palette)
    return figure


def _find_unbeaten(points: Sequence[tuple[float, Row]], by: str) -> list[tuple[float, Row]]:
    """Return the points, from the left, that no other beats in both: less KL and a better number."""
    sign = -1 if NUMBERS[by].better == "low" else 1
    found: list[tuple[float, Row]] = []
    for x, row in sorted(points, key=lambda point: (point[0], -sign * point[1].numbers[by].value)):
        if not row.collapsed and (not found or sign * row.numbers[by].value > sign * found[-1][1].numbers[by].value):
            found.append((x, row))
    return found


def _name_points(
    axes: Axes, points: Sequence[tuple[float, Row]], first: Sequence[Row], by: str, palette: draw.Palette
) -> None:
    named = [(x, row) for x, row in points if len(points) <= NAMED or row in first]
    draw.label_points(axes, [(x, row.numbers[by].value, row.name, palette.colour(row.method)) for x, row in named])


def _draw_cost(rows: Sequence[Row], by: str, palette: draw.Palette) -> Figure:
    figure, axes = draw.new_figure()
    points = [(row.cost["train_seconds"], row) for row in rows if "train_seconds" in row.cost]
    draw.name_axes(axes, "training time (seconds)", NUMBERS[by].label)
    draw.scale_y(axes, NUMBERS[by].form)
    draw.scale_x(axes, [x for x, _ in points], at_values=False)
    _draw_bars(axes, points, by, palette)
    _name_points(axes, points, [row for _, row in _find_unbeaten(points, by)], by, palette)
    return figure

"""Draws a study's tuning curves, and quality against KL and against the cost of tuning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.leaderboard import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alignzoo.report.leaderboard.rows import Row
    from alignzoo.study.reading import Study


@dataclass(frozen=True)
class Plot:
    """One plot of the page."""

    name: str
    title: str
    caption: str
    svg: str


def draw_plots(study: Study, palette: draw.Palette) -> list[Plot]:
    """Return the plots that have something to show."""
    return [
        Plot(name, title, caption, draw.make_svg(figure, name))
        for name, title, caption, figure in _make_figures(study, palette)
    ]


def _make_figures(study: Study, palette: draw.Palette) -> Iterator[tuple[str, str, str, Figure]]:
    label = NUMBERS[study.protocol.settings.number].label
    if any(len(points) > 1 for points in study.curves.values()):
        caption = (
            "Expected best of so many trials, on validation rows (all ways to take them of those that were run). "
            "Shaded: where the median best lies at 95 %, by order statistics, as far as so few trials bound it."
        )
        yield "tuning", "Best trial so far", caption, _draw_curves(study, palette)
    caption = "Each winner, mean over its fresh seeds, on test rows."
    far = [(row.numbers["kl"].value, value, row.method) for row, value in _list_rows(study) if "kl" in row.numbers]
    if len(far) > 1:
        yield "kl", f"{label} against KL", caption, _scatter(study, far, NUMBERS["kl"].label, palette)
    spent = [(sum(t.seconds for t in study.trials[row.method]), value, row.method) for row, value in _list_rows(study)]
    if len(spent) > 1:
        axis = "seconds of all trials of the method"
        yield "cost", f"{label} against cost", caption, _scatter(study, spent, axis, palette)


def _list_rows(study: Study) -> list[tuple[Row, float]]:
    """Return the methods of the test with their values, without the start model."""
    found = study.findings.methods if study.findings else ()
    return [(one.row, one.value) for one in found if one.row is not None]


def _draw_curves(study: Study, palette: draw.Palette) -> Figure:
    number = NUMBERS[study.protocol.settings.number]
    figure, axes = draw.new_figure()
    draw.name_axes(axes, "trials", f"{number.label}, validation")
    draw.scale_y(axes, number.form)
    ends = []
    for method, points in study.curves.items():
        if not points:
            continue
        colour, counts = palette.colour(method), [point.trials for point in points]
        axes.plot(
            counts, [point.expected for point in points], color=colour, marker=palette.marker(method), markersize=4
        )
        bounded = [point for point in points if point.low is not None and point.high is not None]
        axes.fill_between(
            [point.trials for point in bounded],
            [point.low or 0.0 for point in bounded],
            [point.high or 0.0 for point in bounded],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        ends.append((counts[-1], points[-1].expected, method, colour))
    draw.label_ends(axes, ends)
    return figure


def _scatter(study: Study, found: list[tuple[float, float, str]], axis: str, palette: draw.Palette) -> Figure:
    number = NUMBERS[study.protocol.settings.number]
    figure, axes = draw.new_figure()
    draw.name_axes(axes, axis, number.label)
    draw.scale_y(axes, number.form)
    draw.scale_x(axes, [x for x, _, _ in found], at_values=False)
    for x, y, method in found:
        axes.plot([x], [y], palette.marker(method), color=palette.colour(method), markersize=7)
    draw.label_points(axes, [(x, y, method, palette.colour(method)) for x, y, method in found])
    return figure

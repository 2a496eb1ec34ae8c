"""Draws the training curves of all runs in one plot, and the small plots beside the readings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from alignzoo.report.leaderboard import draw
from alignzoo.report.leaderboard.board import Leaderboard
from alignzoo.report.leaderboard.reading import Reading, read_curve
from alignzoo.report.training_curves import smooth

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Metric -> name of the file, title, and what to know before comparing.
CURVES = {
    "loss": ("loss", "loss", "Each method has its own loss: compare the shapes, not the heights."),
    "rewards/margins": (
        "margin",
        "reward margin",
        "Scaled by each method's beta: compare the shapes, not the heights.",
    ),
    "rewards/accuracies": ("accuracy", "reward accuracy", "On the batches of the training, not on held-out rows."),
}
LONG = 12  #: points from which a curve is smoothed


def make_curve_figures(board: Leaderboard, palette: draw.Palette) -> Iterator[tuple[str, str, str, Figure]]:
    """Yield name, title, caption and figure of each training curve that a run logged."""
    for metric, (name, title, caption) in CURVES.items():
        curves = [(run.method, points) for run in board.runs if len(points := read_curve(run.history, metric)) > 1]
        if curves:
            text = f"{caption} Smoothed; one line per run." if _any_long(curves) else caption
            yield (
                f"curve-{name}",
                f"{title} while training",
                text,
                _overlay(curves, title, palette, name == "accuracy"),
            )


Curve = tuple[str, Sequence[tuple[float, float]]]


def _any_long(curves: Sequence[Curve]) -> bool:
    return any(len(points) >= LONG for _, points in curves)


def _overlay(curves: Sequence[Curve], title: str, palette: draw.Palette, share: bool) -> Figure:
    figure, axes = draw.new_figure()
    draw.name_axes(axes, "step", title)
    if share:
        draw.scale_y(axes, "{:.0%}")
    ends: dict[str, list[tuple[float, float]]] = {}
    for method, points in curves:
        steps, values = zip(*points, strict=True)
        shown = smooth(values) if len(values) >= LONG else values
        axes.plot(steps, shown, color=palette.colour(method), linewidth=1.6, alpha=0.9 if len(curves) < 12 else 0.6)
        ends.setdefault(method, []).append((steps[-1], shown[-1]))
    furthest = {method: max(found) for method, found in ends.items()}
    draw.label_ends(axes, [(*furthest[method], method, palette.colour(method)) for method in furthest])
    return figure


def draw_reading(readings: Sequence[tuple[str, Reading]], palette: draw.Palette) -> Figure:
    """Return the small plot beside a reading: the curves of the runs in which it happened."""
    figure, axes = draw.new_figure(3.6, 2.3)
    first = readings[0][1]
    draw.name_axes(axes, "step" if first.logged else "", first.label)
    for method, reading in readings:
        steps, values = zip(*reading.points, strict=True)
        many = len(values) >= LONG
        axes.plot(
            steps,
            smooth(values) if many else values,
            color=palette.colour(method),
            linewidth=1.6,
            marker="" if many else palette.marker(method),
        )
    if not first.logged:
        axes.set_xticks([0, 1], ["before", "after"])
        axes.set_xlim(-0.15, 1.15)
    return figure

"""Draws the training curves as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.runs.contents import is_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: TRL's metric -> file name and axis label. A curve is drawn where the method logs it.
CURVES = {
    "loss": ("loss", "loss"),
    "rewards/margins": ("margin", "reward margin (scaled by beta)"),
    "rewards/accuracies": ("accuracy", "reward accuracy"),
    "reward": ("reward", "reward"),
    "kl": ("kl", "KL to the start model"),
    "mean_token_accuracy": ("token_accuracy", "token accuracy"),
}

#: Left and lower edge, width and height of the axes, in shares of the figure. A layout that matplotlib computes draws
#: each curve two more times, which takes as long as training a small model.
INSIDE = (0.14, 0.14, 0.83, 0.77)


def draw_curves(history: Sequence[Mapping[str, Any]], folder: Path, title: str) -> list[Path]:
    """Write a PNG for each of :data:`CURVES` that ``history`` (lines of metrics.jsonl) has, and return their paths."""
    found = {}
    for metric, curve in CURVES.items():
        points = [(line["step"], line[metric]) for line in history if is_number(line.get(metric)) and "step" in line]
        if points:
            found[curve] = points
    if not found:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    figure = _make_figure(title)
    return [_draw(figure, points, folder / f"{name}.png", label) for (name, label), points in found.items()]


def _make_figure(title: str) -> Figure:
    """Return a figure with empty axes: making them takes longer than drawing, and all curves of a run use the same."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(INSIDE)
    axes.set_title(title, y=1.0, parse_math=False)  # at a given height, or the ticks are laid out a second time
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _draw(figure: Figure, points: Sequence[tuple[int, float]], file: Path, label: str) -> Path:
    (axes,) = figure.axes
    steps, values = zip(*points, strict=True)
    many = len(points) > 20
    lines = axes.plot(steps, values, color="#9ecae1" if many else "#1f77b4", marker="" if many else "o", markersize=3)
    if many:
        lines += axes.plot(steps, smooth(values), color="#1f77b4")
    axes.set_ylabel(label)
    figure.savefig(file, pil_kwargs={"compress_level": 1})
    for line in lines:
        line.remove()
    axes.relim()
    return file


def smooth(values: Sequence[float], weight: float = 0.85) -> list[float]:
    """Return the exponential moving average, corrected for its start."""
    average, smoothed = 0.0, []
    for count, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        smoothed.append(average / (1 - weight**count))
    return smoothed

"""What the leaderboard's plots show, as the figures hold it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from leaderboard_runs import lines, make_run, pairs

from alignzoo.report.leaderboard import draw
from alignzoo.report.leaderboard.board import Leaderboard, read_leaderboard
from alignzoo.report.leaderboard.curves import make_curve_figures
from alignzoo.report.leaderboard.plots import _find_unbeaten, find_swept, make_figures


def read(folder: Path, *runs: tuple[str, int, float]) -> Leaderboard:
    """Read a board of runs: overrides, pairs of 48 told apart, and KL in nats per token."""
    for number, (words, right, kl) in enumerate(runs):
        history = [{"step": n, "loss": 1.0 / n} for n in range(1, 6)]
        cost = {"cost": {"train_seconds": 10.0 + number}}
        make_run(folder / str(number), words, lines(pairs(right), kl=10 * kl), history, cost)
    return read_leaderboard([folder])


def drawn(board: Leaderboard) -> dict[str, Any]:
    palette = draw.Palette(run.method for run in board.runs)
    found = (*make_figures(board, palette), *make_curve_figures(board, palette))
    return {name: figure.axes[0] for name, _, _, figure in found}


def texts(axes: Any) -> set[str]:
    return {text.get_text() for text in axes.texts}


BETAS = (
    ("method=dpo method.beta=0.01", 40, 0.5),
    ("method=dpo method.beta=0.5", 30, 0.1),
    ("method=dpo method.beta=0.1", 36, 0.2),
    ("method=ipo method.beta=0.1", 20, 0.3),
)


def test_a_line_a_method_over_the_swept_parameter(tmp_path: Path) -> None:
    axes = drawn(read(tmp_path, *BETAS))["by-method.beta"]
    (line,) = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert list(line.get_xdata()) == [0.01, 0.1, 0.5]
    assert list(line.get_ydata()) == pytest.approx([40 / 48, 36 / 48, 30 / 48])
    assert axes.get_xscale() == "log"
    assert texts(axes) == {"dpo", "ipo"}


def test_a_narrow_range_is_not_logarithmic(tmp_path: Path) -> None:
    axes = drawn(read(tmp_path, *BETAS[1:]))["by-method.beta"]
    assert axes.get_xscale() == "linear"


def test_two_swept_parameters_are_two_plots_with_a_line_for_each_other_value(tmp_path: Path) -> None:
    runs = [(f"method=dpo method.beta={b} train.max_steps={s}", 30, 0.1) for b in (0.1, 0.5) for s in (5, 50)]
    board = read(tmp_path, *runs)
    assert sorted(find_swept(board.rows)) == ["method.beta", "train.max_steps"]
    axes = drawn(board)["by-method.beta"]
    assert texts(axes) == {"dpo train.max_steps=5", "dpo train.max_steps=50"}


def test_what_differs_only_between_methods_was_not_swept(tmp_path: Path) -> None:
    board = read(tmp_path, ("method=dpo method.beta=0.1", 30, 0.1), ("method=ipo method.beta=0.5", 20, 0.1))
    assert find_swept(board.rows) == []


def test_the_frontier_by_hand(tmp_path: Path) -> None:
    """dpo 0.5 has the least KL, 0.1 and 0.01 pay for more; ipo has more KL than dpo 0.1 and is worse."""
    board = read(tmp_path, *BETAS)
    points = [(row.numbers["kl"].value, row) for row in board.rows]
    assert [row.name for _, row in _find_unbeaten(points, board.by)] == [
        "dpo beta=0.5",
        "dpo beta=0.1",
        "dpo beta=0.01",
    ]
    assert texts(drawn(board)["frontier"]) == {row.name for row in board.rows}


def test_what_collapsed_is_hollow_and_not_on_the_frontier(tmp_path: Path) -> None:
    board = read(tmp_path, ("method=dpo", 48, 2.0), ("method=ipo", 40, 0.5))
    points = [(row.numbers["kl"].value, row) for row in board.rows]
    assert [row.name for _, row in _find_unbeaten(points, board.by)] == ["ipo"]
    faces = [line.get_markerfacecolor() for line in drawn(board)["frontier"].lines if line.get_marker() in "os"]
    assert "none" in faces
    assert len(set(faces)) == 2


def test_curves_are_labelled_once_a_method(tmp_path: Path) -> None:
    axes = drawn(read(tmp_path, *BETAS))["curve-loss"]
    assert len(axes.lines) == 4
    assert texts(axes) == {"dpo", "ipo"}


def test_names_of_points_do_not_overlap() -> None:
    figure, axes = draw.new_figure()
    axes.plot([0, 1], [0, 1])
    draw.label_points(axes, [(0.5, 0.5, f"point number {n}", draw.INK) for n in range(20)])
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 2 <= len(boxes) < 20, "those without room are left out"
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
    assert figure.axes == [axes]


def test_names_of_lines_do_not_overlap() -> None:
    _, axes = draw.new_figure()
    axes.plot([0, 1], [0, 1])
    draw.label_ends(axes, [(1.0, 0.5, f"line {n}", draw.INK) for n in range(4)])
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


def test_a_figure_on_the_page_has_the_colours_of_the_page() -> None:
    figure, axes = draw.new_figure()
    axes.plot([0, 1], [0, 1], color=draw.LIGHT[2])
    draw.name_axes(axes, "cost_$5_or_$6 <b>", "Größe")
    found = draw.make_svg(figure, "name")
    assert "var(--c2)" in found
    assert not re.findall("|".join((*draw.LIGHT, draw.INK, draw.FAINT)), found)
    assert "cost_$5_or_$6 &lt;b&gt;" in found, "text is text, and not mathematics or markup"
    assert draw.make_svg(figure, "name") == found

"""Training curves: which pictures are drawn, and that what is drawn is what was logged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from alignzoo.report.training_curves import CURVES, draw_curves, smooth


def history(**metrics: list[Any]) -> list[dict[str, Any]]:
    steps = range(1, 1 + max(len(values) for values in metrics.values()))
    return [{"step": n, **{name: values[n - 1] for name, values in metrics.items()}} for n in steps]


def ink(file: Path) -> Any:
    """Return where the picture is blue."""
    import matplotlib.image

    picture = matplotlib.image.imread(file)
    return (picture[..., 2] - picture[..., 0]) > 0.3


def test_one_picture_a_known_metric(tmp_path: Path) -> None:
    lines = history(loss=[0.7, 0.6], kl=[0.0, 0.1], entropy=[1.0, 2.0])
    drawn = draw_curves(lines, tmp_path / "plots", "a title")
    assert drawn == [tmp_path / "plots" / "loss.png", tmp_path / "plots" / "kl.png"]
    assert sorted(tmp_path.rglob("*.png")) == sorted(drawn)
    for file in drawn:
        assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert ink(file).any()


def test_every_known_metric_has_a_file_of_its_own(tmp_path: Path) -> None:
    drawn = draw_curves(history(**{metric: [1.0, 2.0] for metric in CURVES}), tmp_path, "a title")
    assert [file.stem for file in drawn] == [name for name, _ in CURVES.values()]
    assert len(set(drawn)) == len(CURVES)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"step": 3, "train_runtime": 5.0}],
        [{"step": 1, "loss": None}, {"step": 2, "loss": None}],
        [{"loss": 0.5}],
        [{"step": 1, "loss": "0.5"}],
        [{"step": 1, "loss": math.nan}, {"step": 2, "loss": math.inf}],
    ],
)
def test_nothing_to_draw_makes_no_folder(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    assert draw_curves(lines, tmp_path / "plots", "a title") == []
    assert not (tmp_path / "plots").exists()


def test_a_rising_loss_is_drawn_rising(tmp_path: Path) -> None:
    for name, values in {"up": [0.0, 1.0, 2.0], "down": [2.0, 1.0, 0.0]}.items():
        (file,) = draw_curves(history(loss=values), tmp_path / name, "a title")
        heights = [column.nonzero()[0].mean() for column in ink(file).T if column.any()]
        assert bool(heights[0] > heights[-1]) is (name == "up"), "rows of a picture count from its top"


def test_lines_without_a_number_are_left_out(tmp_path: Path) -> None:
    whole = draw_curves([{"step": 1, "loss": 1.0}, {"step": 3, "loss": 3.0}], tmp_path / "a", "a title")
    holes = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": None}, {"step": 3, "loss": 3.0}, {"step": 3, "runtime": 1.0}]
    assert draw_curves(holes, tmp_path / "b", "a title")[0].read_bytes() == whole[0].read_bytes()


def test_many_points_are_drawn_with_their_average(tmp_path: Path) -> None:
    noisy = [float(n % 2) for n in range(21)]
    (many,) = draw_curves(history(loss=noisy), tmp_path / "many", "a title")
    (few,) = draw_curves(history(loss=noisy[:20]), tmp_path / "few", "a title")
    assert len(colours(many)) > len(colours(few)), "the values are pale behind their average"


def colours(file: Path) -> set[tuple[int, ...]]:
    """Return the two blues of the curves, as far as the picture has them."""
    import matplotlib.image

    picture = (matplotlib.image.imread(file)[..., :3] * 255).round().astype(int).reshape(-1, 3)
    present = set(map(tuple, picture.tolist()))
    return {blue for blue in ((0x9E, 0xCA, 0xE1), (0x1F, 0x77, 0xB4)) if blue in present}


def test_the_average_is_corrected_for_its_start() -> None:
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    first, second, third = smooth([1.0, 3.0, 0.0], weight=0.5)
    assert first == 1.0
    assert second == pytest.approx((0.25 * 1 + 0.5 * 3) / 0.75)
    assert third == pytest.approx((0.125 * 1 + 0.25 * 3 + 0.5 * 0) / 0.875)
    assert smooth([]) == []


def test_pictures_are_the_same_every_time(tmp_path: Path) -> None:
    lines = history(loss=[0.7, 0.6, 0.5])
    (first,), (second,) = (draw_curves(lines, tmp_path / name, "a title") for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_a_title_with_mathematics_in_it_is_text(tmp_path: Path) -> None:
    """A dataset may be called cost_$5_or_$6."""
    assert draw_curves(history(loss=[0.7, 0.6]), tmp_path, "dpo, tiny, cost_$5_or_$6 {x} 日本")

"""What a leaderboard shows of benchmarks: each setting beside its start model, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from leaderboard_runs import lines, make_run, pairs, write_lines

from alignzoo.evaluate.simultaneous import compare_two
from alignzoo.report.leaderboard.board import read_leaderboard
from alignzoo.report.leaderboard.files import write_leaderboard
from alignzoo.report.leaderboard.table import print_leaderboard

START = [1.0] * 40 + [0.0] * 20


def write_run(folder: Path, words: str, after: Sequence[float], before: Sequence[float] = START) -> None:
    make_run(folder, words, lines(pairs(30)))
    items = [
        {
            "task": "sums",
            "part": "sums",
            "item": place,
            "hash": f"{place:x}",
            "before": {"scores": {"acc": first}, "answer": None},
            "after": {"scores": {"acc": second}, "answer": None},
        }
        for place, (first, second) in enumerate(zip(before, after, strict=True))
    ]
    write_lines(folder / "tasks.jsonl", items)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """dpo forgets 20 of 60 items, ipo learns two and forgets two; kto measured no benchmark."""
    write_run(tmp_path / "runs" / "dpo", "method=dpo", [0.0] * 20 + START[20:])
    write_run(tmp_path / "runs" / "ipo", "method=ipo", [0.0] * 2 + START[2:58] + [1.0] * 2)
    make_run(tmp_path / "runs" / "kto", "method=kto", lines(pairs(30)))
    return tmp_path / "runs"


def test_each_setting_stands_beside_the_start_model(runs: Path) -> None:
    (column,) = read_leaderboard([runs]).tax
    assert (column.metric.label, column.items, column.start) == ("sums: acc", 60, pytest.approx(2 / 3))
    assert column.values == {"dpo": pytest.approx(1 / 3), "ipo": pytest.approx(2 / 3)}
    assert column.changes["dpo"].value == pytest.approx(-1 / 3)
    assert column.changes["dpo"].high < 0
    assert column.changes["ipo"].is_zero


def test_the_intervals_of_several_settings_hold_together(tmp_path: Path) -> None:
    """Wider than that of one setting by itself, which is the interval in the run's own result."""
    for place in range(12):
        lost = [0.0 if item % 12 == place or item < 5 else value for item, value in enumerate(START)]
        write_run(tmp_path / str(place), f"method=dpo method.beta=0.{place + 1:02d}", lost)
    every = next(iter(read_leaderboard([tmp_path]).tax[0].changes.values()))
    alone = read_leaderboard([tmp_path / "0"]).tax[0].changes["dpo"]
    lost = [0.0 if item % 12 == 0 or item < 5 else value for item, value in enumerate(START)]
    own = compare_two(_column(lost), _column(START), 1.0).subtract(0, 1)
    assert (alone.low, alone.high) == pytest.approx((own.low, own.high))
    assert every.value == alone.value
    assert every.low < alone.low < alone.high < every.high


def _column(values: Sequence[float]) -> Any:
    import numpy as np

    return np.array(values, float)


def test_seeds_are_folded_and_their_spread_counts(tmp_path: Path) -> None:
    for seed, lost in enumerate((10, 20, 30)):
        write_run(tmp_path / str(seed), f"method=dpo seed={seed}", [0.0] * lost + START[lost:])
    (column,) = read_leaderboard([tmp_path]).tax
    assert column.values == {"dpo": pytest.approx(1 / 3)}
    single = read_leaderboard([tmp_path / "1"]).tax[0].changes["dpo"]
    assert column.changes["dpo"].low < single.low


def test_runs_of_different_start_models_are_each_compared_with_their_own(runs: Path) -> None:
    write_run(runs / "cpo", "method=cpo", [1.0] * 60, before=[1.0] * 50 + [0.0] * 10)
    board = read_leaderboard([runs])
    changes = {name: change.value for name, change in board.tax[0].changes.items()}
    assert changes == pytest.approx({"cpo": 10 / 60, "dpo": -1 / 3, "ipo": 0.0})
    assert board.tax[0].other_starts


def test_terminal_page_and_table_show_it(runs: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    board = write_leaderboard([runs], tmp_path / "out")
    print_leaderboard(board)
    out = capsys.readouterr().out
    assert "alignment tax" in out
    told = "Benchmarks: dpo is below the start model in sums: acc: -33.3 ("
    assert told in out
    assert "ipo is" not in out.partition("alignment tax")[2].partition(told)[2].partition("\n")[0]
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert "Alignment tax" in page
    assert told in page
    assert "66.7%" in page
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv").set_index("method")
    assert table.loc["dpo", "sums: acc"] == pytest.approx(1 / 3)
    assert table.loc["dpo", "sums: acc change_high"] < 0
    assert pd.isna(table.loc["kto", "sums: acc"])


def test_a_board_without_benchmarks_says_nothing_of_them(tmp_path: Path, capsys: Any) -> None:
    make_run(tmp_path / "dpo", "method=dpo", lines(pairs(30)))
    print_leaderboard(write_leaderboard([tmp_path / "dpo"], tmp_path / "out"))
    assert "alignment tax" not in capsys.readouterr().out
    assert "Alignment tax" not in (tmp_path / "out" / "leaderboard.html").read_text()


def test_a_damaged_file_of_items_takes_its_run_off_the_board(runs: Path) -> None:
    (runs / "ipo" / "tasks.jsonl").write_text('{"task": 1}\n')
    board = read_leaderboard([runs])
    (failed,) = board.failed
    assert failed.reason.startswith("tasks.jsonl cannot be read: line 1: it is not an item of a task")
    assert list(board.tax[0].values) == ["dpo"]

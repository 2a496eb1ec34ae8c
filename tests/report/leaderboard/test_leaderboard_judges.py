"""What a leaderboard shows of judges: their win rates, the one at equal length, and how far two of them agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from leaderboard_runs import lines, make_run, pairs

from alignzoo.report.leaderboard.board import read_leaderboard
from alignzoo.report.leaderboard.files import write_leaderboard
from alignzoo.report.leaderboard.table import print_leaderboard


def judge(answers: list[dict[str, Any]], first: str, second: str) -> list[dict[str, Any]]:
    """Give the answers verdicts, ``+`` a win and ``-`` a loss, and the winners of the first judge a longer text."""
    for line, one, other in zip(answers, first, second, strict=True):
        line["before"] |= {"win": 0.5, "win_second": 0.5}
        line["after"] |= {"win": float(one == "+"), "win_second": float(other == "+")}
        line["after"]["text"] += " and more of it" * (one == "+")
    return answers


def write_runs(folder: Path, second: str) -> None:
    for method, first in (("dpo", "+" * 9 + "-" * 3), ("ipo", "+" * 6 + "-" * 6)):
        make_run(folder / method, f"method={method}", judge(lines(pairs(6, of=12)), first, second))


def test_two_judges_that_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Of 24 verdicts 21 are equal, on 12 prompts: the second judge says of both runs what the first says of ipo."""
    monkeypatch.setenv("COLUMNS", "160")
    write_runs(tmp_path, "+" * 6 + "-" * 6)
    board = read_leaderboard([tmp_path], by="win_rate")
    (sentence,) = [limit for limit in board.limits if "judges" in limit]
    assert sentence.startswith("The two judges agree on 21 of 24 verdicts: Cohen's kappa 0.75 (")
    assert not [note for note in board.notes if "judges" in note]
    first = board.rows[0]
    assert (first.method, first.numbers["win_rate"].value, first.numbers["win_rate_second"].value) == ("dpo", 0.75, 0.5)
    assert first.numbers["win_rate_lc"].value < 0.5, "its wins are the longer completions"
    print_leaderboard(board)
    out = capsys.readouterr().out
    assert all(head in out for head in ("wins (95 %)", "wins (LC)", "wins (2nd)", "agree on 21 of 24 verdicts"))
    write_leaderboard([tmp_path], tmp_path / "out", by="win_rate")
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert "agree on 21 of 24 verdicts" in page
    assert "wins (2nd)" in page


def test_judges_that_agree_by_chance_are_a_warning(tmp_path: Path) -> None:
    write_runs(tmp_path, "+-" * 6)
    board = read_leaderboard([tmp_path], by="win_rate_lc")
    assert [note for note in board.notes if "may be no more than two judges would agree who decide by chance" in note]
    assert {row.method for row in board.rows} == {"dpo", "ipo"}


def test_runs_of_one_judge_say_nothing_of_a_second(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "method=dpo", lines(pairs(6), {"win": 0.5}, win=1.0))
    board = read_leaderboard([tmp_path], by="win_rate")
    assert "win_rate_second" not in board.rows[0].numbers
    assert not [text for text in (*board.limits, *board.notes) if "judges" in text]

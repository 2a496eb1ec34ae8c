"""Rows whose prompts are in the test are told, also reworded ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from alignzoo.data import manifest
from alignzoo.runs.folder import Run
from alignzoo.runs.sweep_status import State
from alignzoo.study.members import Member
from alignzoo.study.overlap import describe_overlap


def member(folder: Path, reasons: list[str]) -> Member:
    folder.mkdir()
    (folder / "result.json").write_text("{}")
    decisions = ["dropped" if reason else "train" for reason in reasons]
    pd.DataFrame({"decision": decisions, "reason": reasons}).to_parquet(folder / manifest.FILE)
    return Member("dpo", 0, 0, State.DONE, "", Run(folder))


def test_left_out_rows_are_told_by_side(tmp_path: Path) -> None:
    near, same, other = "a near-equal prompt is held out", "its prompt is held out", "its prompt is for validation"
    found = describe_overlap([member(tmp_path / "run", ["", near, near, same, other, "longer than train.max_length"])])
    assert found == [
        "3 rows to train on (2 of them reworded) have prompts of the test rows, and were left out.",
        "1 rows to train on have prompts of the validation rows, and were left out.",
    ]


@pytest.mark.parametrize("reasons", [[""], ["beyond dataset.heldout.rows"]])
def test_nothing_is_told_where_no_row_overlaps(tmp_path: Path, reasons: list[str]) -> None:
    assert describe_overlap([member(tmp_path / "run", reasons)]) == []


def test_before_the_first_result_nothing_is_known(tmp_path: Path) -> None:
    assert describe_overlap([Member("dpo", 0, 0, State.PENDING, "", None)]) == []

"""How far a run is and what it answers so far, as its folder has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alignzoo.runs import progress
from alignzoo.runs.progress import TRAINING, Progress, append_answers, read_answers, read_progress, write_progress


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    now = Progress(TRAINING, 3, 9, 0, 1.5, 10, 20)
    write_progress(tmp_path, now)
    assert read_progress(tmp_path) == now


@pytest.mark.parametrize("content", ["", "{", "[]", '{"phase": "training"}', '{"phase": 1}', "[" * 100_000])
def test_what_is_damaged_is_not_there(tmp_path: Path, content: str) -> None:
    for name in (progress.FILE, progress.ANSWERS):
        (tmp_path / name).write_text(content)
    assert read_progress(tmp_path) is None
    assert read_answers(tmp_path) == []


def test_the_pace_is_that_since_this_start() -> None:
    now = Progress(TRAINING, step=30, steps=50, first_step=20, seconds=100.0, peak_bytes=0, free_bytes=0)
    assert now.seconds_left == 200.0
    assert Progress(TRAINING, 20, 50, 20, 3.0, 0, 0).seconds_left is None


def test_a_resume_takes_back_what_was_written_beyond_its_step(tmp_path: Path) -> None:
    row = {"id": 0, "prompt": "p", "text": "t", "ended": True}
    for step in (0, 2, 4):
        append_answers(tmp_path, step, [row])
    with (tmp_path / progress.ANSWERS).open("a") as stream:
        stream.write('{"step": 6, "answers": [{"id"')
    progress.truncate(tmp_path, 3)
    assert [line["step"] for line in read_answers(tmp_path)] == [0, 2]
    progress.truncate(tmp_path, 0)
    assert os.listdir(tmp_path) == []

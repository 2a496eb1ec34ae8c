"""Faults at random moments of pipelines, of sweeps, and of methods compared over seeds, which are then finished."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from cells import GROUPS, Report, divide
from injecting import Faults
from inprocess import call
from processes import Started, lines
from stopping import same_group

from alignzoo.runs.sweep_status import PLAN

pytestmark = pytest.mark.faults

KINDS = ("kill", "SIGTERM")
FAULTS_A_GROUP = 3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    divide(metafunc, [*GROUPS])


def finish(folder: Path, words: tuple[str, ...], by_status: bool) -> None:
    """Finish it by the same command, or a sweep by ``alignzoo sweep resume``; then all of it is done."""
    is_sweep = "-m" in words
    again = ("sweep", "resume", str(folder)) if is_sweep and by_status and (folder / PLAN).exists() else words
    last = Started(folder, *again)
    assert last.ends() == 0, last.said
    status = call("sweep", "status", str(folder)) if is_sweep else None
    assert status is None or status.code == 0, status.out


def test_runs_that_one_command_starts_come_out_the_same(
    cell: str, wanted: int, tmp_path: Path, cache: Path, chance: random.Random, report_faults: Report
) -> None:
    words = GROUPS[cell]
    whole = Started(tmp_path / "whole", *words)
    assert whole.ends() == 0, whole.said
    faults = Faults(words, 1, None, chance, KINDS, most=lines(whole.folder) // 2)
    groups = 0
    while faults.seen.total() < wanted:
        folder, groups = tmp_path / f"group-{groups}", groups + 1
        for _ in range(min(FAULTS_A_GROUP, wanted - faults.seen.total())):
            faults.disturb(folder)
        finish(folder, words, by_status=chance.random() < 0.5)
        same_group(folder, whole.folder)
        shutil.rmtree(folder)
    report_faults(cell, faults.seen, f"in {groups} of them, all the same bit for bit")

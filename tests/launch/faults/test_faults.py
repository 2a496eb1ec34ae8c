"""Faults at random moments of real runs; each run must come out as one that was left alone.

pytest tests/launch/faults -m faults --faults 100 --seed 7
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import METHODS, STRATEGIES, WORDS, Report, divide
from injecting import Faults
from processes import Started
from stopping import near, same

pytestmark = pytest.mark.faults

FAULTS_A_RUN = 4

#: How far two processes may end from two that were left alone, in the weights and losses. Their sums have two terms, so
#: that their order, which gloo does not promise, does not matter: 0.0 was seen.
TOLERANCE = 1e-6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    divide(metafunc, [f"{method}-{strategy}" for method in METHODS for strategy in STRATEGIES])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 64 MiB for the runs' folders; None where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_runs_that_are_disturbed_come_out_the_same(
    cell: str, wanted: int, tmp_path: Path, disk: Path | None, cache: Path, chance: random.Random, report_faults: Report
) -> None:
    method, strategy = cell.split("-")
    processes = STRATEGIES[strategy]
    words = (f"method={method}", *METHODS[method], *WORDS, f"strategy={strategy}", f"strategy.processes={processes}")
    faults = Faults(words, processes, tmp_path if disk else None, chance)
    whole = Started(tmp_path / "whole", *words)
    assert whole.ends() == 0, whole.said
    runs, furthest = 0, 0.0
    while faults.seen.total() < wanted:
        folder, runs = (disk or tmp_path) / f"run-{runs}", runs + 1
        for _ in range(min(FAULTS_A_RUN, wanted - faults.seen.total())):
            faults.disturb(folder)
        (last,) = faults.start(folder)
        assert last.ends() == 0, last.said
        if processes == 1:
            same(folder, whole.folder)
        else:
            furthest = max(furthest, near(folder, whole.folder, TOLERANCE))
        shutil.rmtree(folder)
    how = "bit for bit" if processes == 1 else f"weights within {furthest:.0e}"
    report_faults(f"{method} {strategy}", faults.seen, f"in {runs} runs, all the same {how}")

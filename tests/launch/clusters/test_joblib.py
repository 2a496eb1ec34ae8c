"""Sweeps whose jobs joblib runs side by side: nox -s clusters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sweeping
from conftest import QUICK
from sweeping import finished, gone, left

pytestmark = pytest.mark.clusters
pytest.importorskip("hydra_plugins.hydra_joblib_launcher")

SETTING = (*QUICK, "evaluate.shown=0", "train.per_device_batch_size=2", "train.max_steps=2", "hydra.sweep.dir=sweep")
TWO = ("strategy=ddp", "strategy.processes=2")
LAUNCHER = ("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")

Alignzoo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def doing(tmp_path: Path) -> dict[str, str]:
    return sweeping.doing(tmp_path)


def test_a_sweep_of_two_processes_each_makes_one_leaderboard(alignzoo: Alignzoo, tmp_path: Path) -> None:
    done = alignzoo(*LAUNCHER, "method=dpo,ipo", "method.beta=0.05,0.1,0.5", *SETTING, *TWO)
    assert done.returncode == 0, done.stderr
    assert finished(tmp_path / "sweep") == "012345"
    assert len((tmp_path / "sweep" / "leaderboard.csv").read_text().splitlines()) == 7
    assert len(list(tmp_path.rglob("leaderboard.csv"))) == 1
    assert all((folder / "logs" / "rank1.log").exists() for folder in (tmp_path / "sweep").glob("[0-5]-*"))
    assert gone(tmp_path, 5), left(tmp_path)
    status = alignzoo("sweep", "status", "sweep")
    assert (status.returncode, status.stdout.splitlines()[-1]) == (0, "6 done")


def test_a_failing_member_stops_no_other(alignzoo: Alignzoo, doing: dict[str, str], tmp_path: Path) -> None:
    done = alignzoo(*LAUNCHER, "method.beta=0.05,0.1,0.5", *SETTING, *TWO, ALIGNZOO_DO='{"0.05": "raise"}', **doing)
    assert done.returncode == 1
    assert "alignzoo: rank 0 failed: RuntimeError: the moon is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert finished(tmp_path / "sweep") == "12"
    status = alignzoo("sweep", "status", "sweep")
    assert status.stdout.splitlines()[-1] == "2 done, 1 failed"
    assert gone(tmp_path, 5), left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_sweep_that_is_ended(
    doing: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """Two jobs stand still at their second step; then the process that was started gets the signal, alone."""
    words = ("method.beta=0.05,0.1", *SETTING, *TWO, "strategy.grace=2")
    environment = {**os.environ, **doing, "ALIGNZOO_DO": '{"0.05": "wait", "0.1": "wait"}'}
    command = [sys.executable, "-m", "alignzoo", *LAUNCHER, *words]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out)
    try:
        sweeping.wait_until(lambda: len(list((tmp_path / "here").iterdir())) == 2, process, tmp_path / "out")
        process.send_signal(number)
        process.wait(60)
        assert gone(tmp_path, 20), left(tmp_path)
        assert process.returncode == (130 if number == signal.SIGINT else -number)
    finally:
        process.kill()


def test_a_study_ends_with_the_same_table(alignzoo: Alignzoo, tmp_path: Path) -> None:
    sweeping.compare_studies(alignzoo, tmp_path, *LAUNCHER[1:])

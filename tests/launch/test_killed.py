"""Runs that are killed, signalled or started twice, as real processes; each comes out as one that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import run
from processes import Started, lines
from stopping import same

from alignzoo.system.signals import EXIT_CODE

pytestmark = pytest.mark.slow

WORDS = (
    *QUICK,
    "method.learning_rate=0.001",
    "train.warmup_steps=0",
    "train.num_train_epochs=4",
    "train.save_strategy=steps",
    "train.save_steps=1",
    "reward=length",
    "reward.length.slack=200",
    "evaluate.shown=0",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    done = run(tmp_path_factory.mktemp("whole") / "run", *WORDS)
    assert done.code == 0, done.err
    return done.folder


def test_a_run_killed_at_random_moments_comes_out_the_same(whole: Path, tmp_path: Path) -> None:
    """Saving takes most of the time here, so most of the kills fall into it; `nox -s faults` does this for long."""
    chance, folder = random.Random(1), tmp_path / "run"
    for _ in range(2):
        started = Started(folder, *WORDS)
        started.reaches(lines(folder) + chance.randint(1, 4))
        time.sleep(chance.uniform(0, 0.2))
        started.kill(signal.SIGKILL)
        assert started.ends() in (-signal.SIGKILL, 0)
    last = Started(folder, *WORDS)
    assert last.ends() == 0, last.said
    same(folder, whole)


GAME = (
    *("experiment=treasure", "train.max_steps=10", "train.save_strategy=steps", "train.save_steps=1"),
    *("train.global_batch_size=16", "train.per_device_batch_size=16", "evaluate.rows=4", "evaluate.shown=0"),
)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
@pytest.mark.long
def test_a_training_in_an_environment_that_is_killed_comes_out_the_same(
    tmp_path: Path, cache: Path, method: str
) -> None:
    """Each sampling serves two steps: the checkpoints between them hold what tools wrote, and that they did."""
    words = (f"method={method}", *GAME)
    left_alone = run(tmp_path / "whole", *words)
    assert left_alone.code == 0, left_alone.err
    folder = tmp_path / "run"
    for step in (3, 6):
        started = Started(folder, *words)
        started.reaches(step)
        started.kill(signal.SIGKILL)
        assert started.ends() in (-signal.SIGKILL, 0)
    last = Started(folder, *words)
    assert last.ends() == 0, last.said
    same(folder, left_alone.folder)


def test_a_signal_saves_and_tells_how_to_go_on(whole: Path, tmp_path: Path) -> None:
    """SIGUSR1 does so too: `test_stopped_ranks`."""
    words = [word for word in WORDS if "save" not in word]
    folder = tmp_path / "run"
    started = Started(folder, *words)
    assert started.reaches(2)
    started.kill(signal.SIGTERM)
    assert started.ends() == EXIT_CODE, started.said
    (saved,) = folder.glob("checkpoints/checkpoint-*")
    assert f"alignzoo: stopped by SIGTERM at step {saved.name.split('-')[1]} of 16. To resume:" in started.said
    assert f"    python -m alignzoo {' '.join(words)} hydra.run.dir={folder} resume=auto\n" in started.said
    assert not (folder / "result.json").exists()
    last = Started(folder, *words)
    assert last.ends() == 0, last.said
    same(folder, whole)


@pytest.mark.long
def test_a_second_start_is_refused_while_the_first_goes_on(tmp_path: Path, whole: Path) -> None:
    """The second one is the program as a user starts it."""
    folder = tmp_path / "run"
    first = Started(folder, *WORDS)
    assert first.reaches(1)
    os.kill(first.pid, signal.SIGSTOP)
    files = sorted(path for path in folder.rglob("*"))
    command = [sys.executable, "-m", "alignzoo", *WORDS, f"hydra.run.dir={folder}", "resume=auto"]
    second = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert second.returncode == 1
    (line,) = second.stderr.splitlines()
    assert f"{folder} is in use by process {first.pid} on " in line
    assert sorted(path for path in folder.rglob("*")) == files
    os.kill(first.pid, signal.SIGCONT)
    assert first.ends() == 0, first.said
    same(folder, whole)

"""What ends a training inside a job that submitit made: it is queued again, unless somebody wants it to end.

The jobs themselves are in tests/launch/clusters/test_slurm.py.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from alignzoo.launch import submitit


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Stand in a job of submitit's, which listens to SIGUSR2; return the signals that it hears."""
    heard: list[int] = []
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    yield heard
    signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("reason", ["SIGUSR1 at step 3 of 6", "train.stop_before at step 3 of 6"])
def test_a_preempted_sweep_job_is_requeued(queued: list[int], reason: str) -> None:
    submitit.requeue(reason)
    assert queued == [signal.SIGUSR2]


def test_a_cancelled_sweep_job_is_not(queued: list[int]) -> None:
    submitit.requeue("SIGTERM at step 3 of 6")
    assert queued == []


def test_other_runs_are_not(queued: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBMITIT_EXECUTOR")
    submitit.requeue("SIGUSR1 at step 3 of 6")
    assert queued == []


def test_a_sweep_job_that_timed_out_too_often_ends(queued: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(number: int, frame: object) -> None:
        raise RuntimeError("Job not requeued because: timed-out too many times.")

    signal.signal(signal.SIGUSR2, refuse)
    submitit.requeue("SIGUSR2 at step 3 of 6")
    assert "timed-out too many times" in capsys.readouterr().err

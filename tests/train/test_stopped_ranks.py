"""Runs of two processes that are told to stop and resume; `nox -s faults` does worse to them, with every method."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from conftest import QUICK
from processes import Started
from stopping import near, result

from alignzoo.system.signals import EXIT_CODE

pytestmark = pytest.mark.slow

WORDS = (
    *(word for word in QUICK if "dataset.rows" not in word),
    *("train.num_train_epochs=2", "train.warmup_steps=0", "method.learning_rate=0.001", "evaluate.enabled=false"),
    *("reward=length", "reward.length.slack=200"),
)

#: Eight steps or more in two epochs.
CASES = {
    "kto": ("dataset.rows=8",),
    "grpo": ("dataset.rows=4", "method.max_completion_length=6", "+method.num_iterations=2"),
}


def ranks(folder: Path, *words: str) -> list[Started]:
    """Start two processes that find each other as torchrun's do."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    rendezvous = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    outputs = [folder.with_suffix(f".out{rank}") for rank in range(2)]
    numbers = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [Started(folder, *words, output=out, **rendezvous, **own) for out, own in zip(outputs, numbers, strict=True)]


def ended(started: list[Started]) -> list[int]:
    return [one.ends() for one in started]


@pytest.mark.parametrize("method", ["kto", pytest.param("grpo", marks=pytest.mark.long)])
def test_a_signal_to_one_rank_saves_all_and_they_go_on(method: str, tmp_path: Path, cache: Path) -> None:
    """Only rank 1 gets it; both save the same step, the main one says how to resume, and one alone may not."""
    words = (f"method={method}", *CASES[method], *WORDS)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    first = ranks(whole, *words)
    assert ended(first) == [0, 0], first[0].said
    second = ranks(stopped, *words)
    assert second[0].reaches(2)
    second[1].kill(signal.SIGUSR1)
    assert ended(second) == [EXIT_CODE] * 2, second[0].said
    (saved,) = stopped.glob("checkpoints/checkpoint-*")
    step = int(saved.name.split("-")[1])
    assert [f"stopped by SIGUSR1 at step {step} of " in one.said for one in second] == [True, False]
    if method == "dpo":
        alone = Started(stopped, *words)  # each of the two has random states of its own
        assert alone.ends() == 1
        assert "was made with another device, precision or number of processes (device.processes)." in alone.said
    third = ranks(stopped, *words)
    assert ended(third) == [0, 0], third[0].said
    assert result(stopped)["cost"]["resumed"] == [step]
    near(stopped, whole, within=1e-6)

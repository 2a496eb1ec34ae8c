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
from conftest import QUICK
from injecting import Faults
from processes import Started
from stopping import near, same

pytestmark = pytest.mark.faults

PAIRS = ("dataset.rows=16", "train.per_device_batch_size=2")
SAMPLED = ("dataset.rows=4", "method.max_completion_length=6", "+method.num_iterations=2")

#: For each method, the rows that give about a dozen steps in three epochs.
METHODS = {
    "sft": PAIRS,
    "dpo": PAIRS,
    "ipo": (*PAIRS, "peft=lora", "peft.lora_dropout=0.2"),
    "orpo": ("dataset.rows=16", "train.logging_steps=3"),
    "kto": ("dataset.rows=8",),
    "reward": PAIRS,
    "grpo": SAMPLED,
    "rloo": SAMPLED,
}

#: Each with the number of its processes.
STRATEGIES = {"single": 1, "ddp": 2}

WORDS = (
    *(word for word in QUICK if "dataset.rows" not in word),
    *("method.learning_rate=0.001", "train.warmup_steps=0", "train.num_train_epochs=3", "evaluate.shown=0"),
    *("train.save_strategy=steps", "train.save_steps=1", "train.save_total_limit=2"),
    *("reward=length", "reward.length.slack=200"),
)

FAULTS_A_RUN = 4

#: How far two processes may end from two that were left alone, in the weights and losses. Their sums have two terms, so
#: that their order, which gloo does not promise, does not matter: 0.0 was seen.
TOLERANCE = 1e-6


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Divide the faults over methods and strategies; the first ones get what is left over."""
    strategies, faults = metafunc.config.getoption("--strategies").split(","), metafunc.config.getoption("--faults")
    cells = [(method, strategy) for method in METHODS for strategy in strategies]
    counts = [faults // len(cells) + (number < faults % len(cells)) for number in range(len(cells))]
    metafunc.parametrize(
        ("method", "strategy", "wanted"),
        [(*cell, count) for cell, count in zip(cells, counts, strict=True) if count],
        ids=["-".join(cell) for cell, count in zip(cells, counts, strict=True) if count],
    )


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
    method: str,
    strategy: str,
    wanted: int,
    tmp_path: Path,
    disk: Path | None,
    cache: Path,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed, processes = pytestconfig.getoption("--seed"), STRATEGIES[strategy]
    words = (f"method={method}", *METHODS[method], *WORDS, f"strategy={strategy}", f"strategy.processes={processes}")
    faults = Faults(words, processes, tmp_path if disk else None, random.Random(f"{seed} {method} {strategy}"))
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
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.seen.items()) if count)
    how = "bit for bit" if processes == 1 else f"weights within {furthest:.0e}"
    with capsys.disabled():
        print(f"\n{method} {strategy}, seed {seed}: {wanted} faults ({counts}) in {runs} runs, all the same {how}")

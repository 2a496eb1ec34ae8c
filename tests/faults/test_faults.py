"""Faults at random moments of real runs; each run must come out as one that was left alone.

pytest tests/faults -m faults --faults 100 --seed 7
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import run
from processes import Started, lines
from stopping import same

from alignzoo.checkpoint import newest
from alignzoo.notice import EXIT_CODE

pytestmark = pytest.mark.faults

#: For each method, the rows that give about a dozen updates in three epochs of two batches each.
METHODS = {
    "sft": ("dataset.rows=16", "train.per_device_batch_size=2"),
    "dpo": ("dataset.rows=16", "train.per_device_batch_size=2"),
    "ipo": ("dataset.rows=16", "train.per_device_batch_size=2", "peft=lora", "peft.lora_dropout=0.2"),
    "orpo": ("dataset.rows=16", "train.logging_steps=3"),
    "kto": ("dataset.rows=8",),
    "grpo": ("dataset.rows=4", "method.max_completion_length=6", "+method.num_iterations=2"),
}

WORDS = (
    *(word for word in QUICK if "dataset.rows" not in word),
    *("method.learning_rate=0.001", "train.warmup_steps=0", "train.num_train_epochs=3", "evaluate.shown=0"),
    *("train.save_strategy=steps", "train.save_steps=1", "train.save_total_limit=2"),
    *("reward=length", "reward.length.slack=200"),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "strategy" in metafunc.fixturenames:
        metafunc.parametrize("strategy", metafunc.config.getoption("--strategies").split(","))


FAULTS_A_RUN = 4
KINDS = ("kill", "kill", "SIGTERM", "SIGUSR1", "corrupt", "second start")


class Faults:
    """Injects faults into one run after the other and counts those that met a run alive."""

    def __init__(self, words: tuple[str, ...], chance: random.Random) -> None:
        self.words, self.chance, self.seen = words, chance, Counter[str]()

    def disturb(self, folder: Path) -> None:
        """Start the run and do something to it; it may end before."""
        kind, chance = self.chance.choice(KINDS), self.chance
        started = Started(folder, *self.words)
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0, 2))  # also before the training
        else:
            started.reaches(lines(folder) + chance.randint(1, 3))
        time.sleep(chance.uniform(0, 0.2))
        alive = started.process.is_alive()
        if kind == "second start":
            self.start_again(folder, started)
        else:
            number = signal.Signals[kind] if kind.startswith("SIG") else signal.SIGKILL
            started.kill(number)
            expected = EXIT_CODE if kind.startswith("SIG") else -signal.SIGKILL
            # A signal before Python has a handler, while it starts, ends it as signals do.
            assert started.ends() in (expected, 0, -number), f"{kind}: {started.ends()}\n{started.said}"
        if kind == "corrupt":
            alive = self.corrupt(folder / "checkpoints")
        self.seen[kind] += alive

    def start_again(self, folder: Path, started: Started) -> None:
        """Start a second one, which must refuse the folder while the first runs; then stop the first."""
        if not (folder / ".lock").exists():
            started.kill(signal.SIGKILL)
            started.ends()
            return
        second = Started(folder, *self.words, output=folder.with_name("second.out"))
        code = second.ends()
        assert code == 0 if not started.process.is_alive() else code in (0, 1), second.said
        assert code == 0 or "is in use by process" in second.said, second.said
        started.kill(signal.SIGKILL)
        started.ends()

    def corrupt(self, root: Path) -> bool:
        """Cut off, remove or change a file of the newest checkpoint; False if there is none."""
        found, _ = newest(root)
        if found is None:
            return False
        files = sorted(path for path in found.folder.rglob("*") if path.is_file() and path.stat().st_size)
        file, how = self.chance.choice(files), self.chance.choice(("cut", "remove", "change"))
        place = self.chance.randrange(file.stat().st_size)
        if how == "remove":
            file.unlink()
        elif how == "cut":
            os.truncate(file, place)
        else:
            content = bytearray(file.read_bytes())
            content[place] ^= 0x55
            file.write_bytes(content)
        after, skipped = newest(root)
        assert after is None or after.step < found.step, f"{how} {file.name} at {place} was not seen"
        assert skipped[0].startswith(f"{found.folder.name} is skipped: ")
        return True


@pytest.mark.parametrize("method", METHODS)
def test_runs_that_are_disturbed_come_out_the_same(
    method: str,
    strategy: str,
    tmp_path: Path,
    cache: Path,
    pytestconfig: pytest.Config,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = pytestconfig.getoption("--seed")
    wanted = -(-pytestconfig.getoption("--faults") // len(METHODS))
    words = (f"method={method}", f"strategy={strategy}", *METHODS[method], *WORDS)
    faults = Faults(words, random.Random(f"{seed} {method} {strategy}"))
    whole = run(tmp_path / "whole", *words)
    assert whole.code == 0, whole.err
    runs = 0
    while faults.seen.total() < wanted:
        folder, runs = tmp_path / f"run-{runs}", runs + 1
        for _ in range(min(FAULTS_A_RUN, wanted - faults.seen.total())):
            faults.disturb(folder)
        last = Started(folder, *words)
        assert last.ends() == 0, last.said
        same(folder, whole.folder)
        shutil.rmtree(folder)
    with capsys.disabled():
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(faults.seen.items()))
        print(
            f"\n{method} {strategy}, seed {seed}: {faults.seen.total()} faults ({counts}) in {runs} runs, all the same"
        )

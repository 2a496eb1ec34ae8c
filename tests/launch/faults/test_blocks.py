"""Faults between the sampling of completions and the updates that use them: a block of GRPO is trained on twice."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cells import BLOCK, METHODS, WORDS, Report, divide
from processes import Started
from stopping import result, same

from alignzoo.runs.checkpoint import find_newest
from alignzoo.system.signals import EXIT_CODE

pytestmark = pytest.mark.faults

#: Ends its process where $AT says: at the event of a step, by $SIGNAL.
PLUGIN = """
import os, signal
from alignzoo import hookimpl

def end_at(event):
    def called(self, args, state, control, **kwargs):
        if os.environ.get("AT") == f"{event} {state.global_step}":
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
    return called

@hookimpl
def alignzoo_callbacks(cfg):
    from transformers import TrainerCallback

    events = ("on_step_begin", "on_substep_end", "on_pre_optimizer_step")
    return [type("End", (TrainerCallback,), {event: end_at(event) for event in events})()]
"""

#: Four batches are sampled at once, two make an update, and each is used twice: a block is four updates.
UPDATES = 4
WORDS_OF_BLOCKS = ("method=grpo", *METHODS["grpo"], *WORDS, "+method.steps_per_generation=4")
WORDS_OF_BLOCKS += ("train.per_device_batch_size=4", "train.global_batch_size=8")

FAULTS_A_RUN = 3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    divide(metafunc, [BLOCK])


def choose_moment(chance: random.Random, first: int, steps: int) -> str:
    """Return an event, and a step from ``first`` on: there is a sample then that an update has yet to use."""
    step = chance.randrange(first, steps)
    events = ["on_substep_end", "on_pre_optimizer_step"]  # after the first of an update's two batches, and after both
    return f"{chance.choice(events if step % UPDATES == 0 else [*events, 'on_step_begin'])} {step}"


def test_a_block_is_used_to_its_end_or_sampled_alike(
    wanted: int,
    tmp_path: Path,
    cache: Path,
    chance: random.Random,
    report_faults: Report,
    fake_package: Callable[..., None],
) -> None:
    fake_package("fake_end", PLUGIN)
    whole = Started(tmp_path / "whole", *WORDS_OF_BLOCKS)
    assert whole.ends() == 0, whole.said
    steps = result(whole.folder)["cost"]["steps"]
    assert steps >= 2 * UPDATES
    seen, runs = Counter[str](), 0
    while seen.total() < wanted:
        folder, runs = tmp_path / f"run-{runs}", runs + 1
        for _ in range(min(FAULTS_A_RUN, wanted - seen.total())):
            seen[end_inside(folder, chance, steps)] += 1
        last = Started(folder, *WORDS_OF_BLOCKS)
        assert last.ends() == 0, last.said
        same(folder, whole.folder)
    report_faults("grpo inside blocks", seen, f"in {runs} runs, all the same bit for bit")


def end_inside(folder: Path, chance: random.Random, steps: int) -> str:
    """End the run inside a block; return by which signal. It saves every step, or every few."""
    newest, _ = find_newest(folder / "checkpoints")
    first = min(newest.step if newest else 0, steps - 1)
    name, moment = chance.choice(("SIGKILL", "SIGTERM")), choose_moment(chance, first, steps)
    saves = f"train.save_steps={chance.randint(1, UPDATES + 1)}"
    started = Started(folder, *WORDS_OF_BLOCKS, saves, AT=moment, SIGNAL=name)
    expected = {"SIGKILL": -signal.SIGKILL, "SIGTERM": EXIT_CODE}[name]
    assert started.ends() == expected, f"{moment}: {started.process.exitcode}\n{started.said}"
    return f"{name} {moment.split()[0]}"

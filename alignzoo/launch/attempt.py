"""Trains or generates one run in this process and frees what it held."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from alignzoo.runs import resume
from alignzoo.runs.pruning import Pruned
from alignzoo.system import memory, ranks
from alignzoo.system.disk import explain_full_disk
from alignzoo.system.environment import restore_environment
from alignzoo.system.limits import explain_limits
from alignzoo.system.lock import hold_lock

if TYPE_CHECKING:
    from alignzoo.config.checked import Checked
    from alignzoo.runs.record import Record


@dataclass
class Attempt:
    """One start of a run; a run that is resumed has several."""

    words: list[str]
    """The overrides, as typed."""

    sweep: str | None
    """The name of the sweep that the run belongs to."""

    selects: bool = False
    """Whether the sweep chooses its next jobs by this run's number."""

    started: float = field(default_factory=time.time)
    """When it began, in seconds since the epoch."""

    has_written: bool = False
    """Whether it has changed anything in the run folder."""


def train_here(checked: Checked, record: Record, attempt: Attempt) -> None:
    """Train, or generate, in this process; afterwards free its memory and restore the environment variables."""
    cfg, lock = checked.cfg, hold_lock(record.folder) if ranks.rank() == 0 else contextlib.nullcontext()
    full_disk = explain_full_disk(record.folder, "this run was not saved, checkpoints before it are whole")
    with restore_environment(), explain_limits(), full_disk, lock, record.watch.explain():
        try:
            (_generate if "generate" in cfg else _train)(checked, record, attempt)
        finally:
            with contextlib.suppress(OSError):  # one that holds a checkpoint stays
                (record.folder / "checkpoints").rmdir()
            _free_memory()


def _train(checked: Checked, record: Record, attempt: Attempt) -> None:
    from alignzoo.runs.trackers import start_tracker
    from alignzoo.train.run import train

    resume_from = resume.find(checked.cfg, record.folder) if ranks.rank() == 0 else None
    with start_tracker(checked.cfg, record.folder, attempt.sweep) as tracker:
        try:
            _begin(checked, record, attempt, resume_from.step if resume_from else 0)
            sweep = str(record.folder.parent.resolve()) if attempt.sweep else None
            train(checked, record, tracker, attempt.started, resume_from, attempt.selects, sweep)
        except Pruned as pruned:
            record.write_pruned(str(pruned))
            if ranks.rank() == 0:
                print(f"alignzoo: {pruned}", flush=True)


def _generate(checked: Checked, record: Record, attempt: Attempt) -> None:
    from alignzoo.generate.run import generate

    _begin(checked, record, attempt, 0)
    generate(checked, record, attempt.started)


def _begin(checked: Checked, record: Record, attempt: Attempt, step: int) -> None:
    """Write what the run is, and take back what an earlier start logged beyond ``step``."""
    attempt.has_written = True
    record.truncate(step)
    record.describe(checked.cfg, attempt.words)


def _free_memory() -> None:
    """Free what a run held, for the next sweep job."""
    import torch

    memory.reset_peak()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

"""Tells processes that are started again what happened before, by files beside that of their job."""

from __future__ import annotations

from pathlib import Path

from alignzoo.launch.torchrun import USERS
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.system.signals import Preempted

#: Errors that end a run even if restarts are left.
CONCLUSIONS: dict[str, type[BaseException]] = {**USERS, Preempted.__name__: Preempted}


def mark_started(job: Path) -> bool:
    """Note that this worker starts, and tell whether this machine has started it before.

    Torch counts only failures on this machine; it also restarts workers when another machine has come back.
    """
    mark = job.with_suffix(f".rank{ranks.local_rank()}")
    before = mark.exists()
    mark.touch()
    return before


def conclude(job: Path, error: BaseException, text: str) -> None:
    """Write down an end that no restart would change, so that restarted workers end in the same way."""
    job.with_suffix(".concluded").write_text(f"{type(error).__name__}: {text}", encoding="utf-8")


def check_concluded(job: Path) -> None:
    """Raise the error with which a worker of this machine has ended the run, if there is one."""
    file = job.with_suffix(".concluded")
    if file.exists():
        kind, _, text = file.read_text(encoding="utf-8").partition(": ")
        raise CONCLUSIONS.get(kind, UserError)(text)

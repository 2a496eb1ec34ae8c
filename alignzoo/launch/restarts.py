"""What the processes of a run that are started again know of the ones before them, beside the file of their job."""

from __future__ import annotations

from pathlib import Path

from alignzoo.launch.torchrun import USERS
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.system.signals import Preempted

#: What ends a run whatever restarts are left.
CONCLUSIONS: dict[str, type[BaseException]] = {**USERS, Preempted.__name__: Preempted}


def mark_started(job: Path) -> bool:
    """Tell whether this machine has started this worker before, and note that it has now.

    Torch counts only what failed here; it also starts workers again when another machine has come back.
    """
    mark = job.with_suffix(f".rank{ranks.local_rank()}")
    before = mark.exists()
    mark.touch()
    return before


def conclude(job: Path, error: BaseException, text: str) -> None:
    """Keep what no further attempt would change, so that workers that are started again end in the same way."""
    job.with_suffix(".concluded").write_text(f"{type(error).__name__}: {text}", encoding="utf-8")


def check_concluded(job: Path) -> None:
    """Raise what a worker of this machine has concluded the run with, if one has."""
    file = job.with_suffix(".concluded")
    if file.exists():
        kind, _, text = file.read_text(encoding="utf-8").partition(": ")
        raise CONCLUSIONS.get(kind, UserError)(text)

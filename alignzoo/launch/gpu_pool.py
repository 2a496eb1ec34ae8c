"""Gives each sweep job that runs on one machine at the same time GPUs of its own."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.config import placement
from alignzoo.system.environment import restore_environment
from alignzoo.system.errors import UserError
from alignzoo.system.lock import InUse, hold_lock

if TYPE_CHECKING:
    from omegaconf import DictConfig

VISIBLE = "CUDA_VISIBLE_DEVICES"
WAIT = 0.5  #: seconds between two searches for a free GPU


@contextmanager
def reserve_gpus(cfg: DictConfig, launcher: DictConfig) -> Iterator[bool]:
    """Reserve a sweep job's GPUs and hide all others from it; wait while too few are free. Yield whether it has any.

    ``launcher`` is Hydra's. Only joblib runs several jobs at a time on one machine without giving them devices: Ray and
    Slurm do so themselves, and a job that runs alone has all GPUs. A job with reserved GPUs needs processes of its own:
    those of joblib serve several jobs in turn, and CUDA keeps the GPUs that it saw first.

    Raises:
        UserError: the job asks for more GPUs than there are.
    """
    others = count_parallel_jobs(launcher, os.cpu_count() or 1)
    names = list_visible_gpus() if others > 1 and cfg.strategy.device in ("auto", "cuda") else []
    if not names:
        yield False
        return
    count = count_gpus_per_job(cfg.strategy.processes, len(names), others)
    with lock_gpus(names, count) as mine, restore_environment(**{VISIBLE: ",".join(mine)}):
        yield True


def count_parallel_jobs(launcher: DictConfig, cores: int) -> int:
    """Return how many sweep jobs joblib runs at a time on a machine with ``cores``; 1 for other launchers."""
    if not launcher._target_.endswith(".JoblibLauncher"):
        return 1
    count = int(launcher.n_jobs)
    return count if count > 0 else max(1, cores + 1 + count)  # joblib's way: -1 for all cores, -2 for all but one


def count_gpus_per_job(wanted: int | str, found: int, others: int) -> int:
    """Return how many of ``found`` GPUs a sweep job gets: one per process, or an equal share.

    Raises:
        UserError: it asks for more than there are.
    """
    if not isinstance(wanted, int):
        return max(1, found // others)
    if wanted > found:
        raise UserError(
            f"strategy.processes={wanted}: there are {found} GPUs here. Take fewer, or strategy.device=cpu."
        )
    return wanted


def list_visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` has them."""
    numbers = [str(number) for number in range(placement.count_gpus())]
    named = os.environ.get(VISIBLE)
    return [name.strip() for name in named.split(",")] if numbers and named else numbers


@contextmanager
def lock_gpus(names: Sequence[str], count: int) -> Iterator[list[str]]:
    """Wait until ``count`` of the GPUs are free, and lock them against all other sweep jobs of this user."""
    root = Path(tempfile.gettempdir()) / f"alignzoo-gpus-{os.getuid()}"
    while True:
        with ExitStack() as held:
            mine = _lock_enough(names, count, root, held)
            if mine:
                yield mine
                return
        time.sleep(WAIT)


def _lock_enough(names: Sequence[str], count: int, root: Path, held: ExitStack) -> list[str]:
    """Lock ``count`` of the GPUs and return them, or none if fewer are free. The kernel unlocks a dead process's.

    Jobs look in turn: two that each held what the other needs would wait forever.
    """
    mine: list[str] = []
    try:
        with hold_lock(_make_folder(root, "gate")):
            for name in names:
                if len(mine) < count and _try_lock(_make_folder(root, name), held):
                    mine.append(name)
    except InUse:
        return []
    return mine if len(mine) == count else []


def _try_lock(folder: Path, held: ExitStack) -> bool:
    try:
        held.enter_context(hold_lock(folder))
    except InUse:
        return False
    return True


def _make_folder(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder

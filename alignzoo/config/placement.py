"""Counts the processes that train a run together, and the rows that each of them is handed at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.system import ranks
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Placement:
    """How a run's work is divided between processes."""

    processes: int
    """Those that train together, on all machines."""

    per_machine: int
    """Those that the strategy starts on each machine."""

    micro_batch: int
    """Rows that one process is handed at once."""

    accumulation_steps: int
    """Micro-batches that one process takes for each optimizer step."""


def place(cfg: DictConfig) -> Placement:
    """Return the placement of a run.

    Raises:
        UserError: as :func:`count_processes` and :func:`split_batch`.
    """
    processes = count_processes(cfg)
    rows = split_batch(cfg, processes)
    per_machine = processes // int(cfg.strategy.nodes)
    return Placement(processes, per_machine, rows, cfg.train.global_batch_size // (rows * processes))


def count_processes(cfg: DictConfig) -> int:
    """Return how many processes train together: those that were started, or those that the strategy will start.

    Raises:
        UserError: ``strategy.processes=gpus``, and there is none.
    """
    if ranks.is_launched():
        return ranks.world_size()
    return _count_per_machine(cfg) * int(cfg.strategy.nodes)


def _count_per_machine(cfg: DictConfig) -> int:
    """Return how many processes the strategy starts on each machine."""
    wanted = cfg.strategy.processes
    if wanted not in ("auto", "gpus"):
        return int(wanted)
    found = count_gpus() if cfg.strategy.device in ("auto", "cuda") else 0
    if wanted == "gpus" and not found:
        raise UserError(
            f"strategy={cfg.strategy.name} starts one process for each GPU, and there is none here: "
            "add strategy.processes=N to run it on the CPU, or take strategy=single."
        )
    return max(1, found)


def count_gpus() -> int:
    """Count the visible GPUs without using one."""
    if not may_have_gpus():
        return 0
    import torch

    return torch.cuda.device_count()


def may_have_gpus() -> bool:
    """Tell, without torch's seconds of import, whether there may be any: on Linux their drivers leave a file."""
    drivers = [Path("/dev").glob(name) for name in ("nvidia[0-9]*", "kfd", "dxg")]
    return sys.platform != "linux" or any(file for files in drivers for file in files)


def split_batch(cfg: DictConfig, count: int) -> int:
    """Return the rows that one of ``count`` processes is handed at once: what it may take, or its share of the batch.

    With ``train.per_device_batch_tokens`` it is handed its whole share, and divides that.

    Raises:
        UserError: the batch does not fall into such parts.
    """
    total = cfg.train.global_batch_size
    share = max(1, total // count)
    if cfg.train.per_device_batch_tokens is not None:
        if total % count:
            raise UserError(f"train.global_batch_size={total} must be a multiple of {count} process(es).")
        return int(share)
    each = min(cfg.train.per_device_batch_size, share)
    if total % (each * count):
        raise UserError(
            f"train.global_batch_size={total} must be a multiple of train.per_device_batch_size={each} "
            f"x {count} process(es)."
        )
    return int(each)

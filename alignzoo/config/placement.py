"""How a run's processes are placed: how many there are, and what each of them trains on at once."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.launch import rendezvous, slurm
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.system.signals import seconds

if TYPE_CHECKING:
    from omegaconf import DictConfig


def processes(cfg: DictConfig) -> int:
    """Return how many processes train together: those that were started, or those that the strategy will start.

    Raises:
        UserError: ``strategy.processes=gpus``, and there is none.
    """
    if ranks.joined():
        return ranks.world_size()
    return per_machine(cfg) * int(cfg.strategy.nodes)


def per_machine(cfg: DictConfig) -> int:
    """Return how many processes the strategy starts on this machine."""
    wanted = cfg.strategy.processes
    if wanted not in ("auto", "gpus"):
        return int(wanted)
    found = gpus() if cfg.strategy.device in ("auto", "cuda") else 0
    if wanted == "gpus" and not found:
        raise UserError(
            f"strategy={cfg.strategy.name} starts one process for each GPU, and there is none here: "
            "add strategy.processes=N to run it on the CPU, or take strategy=single."
        )
    return max(1, found)


def gpus() -> int:
    """Count the visible GPUs without using one."""
    if not may_have_gpus():
        return 0
    import torch

    return torch.cuda.device_count()


def may_have_gpus() -> bool:
    """Tell, without torch's seconds of import, whether there may be any: on Linux their drivers leave a file."""
    drivers = [Path("/dev").glob(name) for name in ("nvidia[0-9]*", "kfd", "dxg")]
    return sys.platform != "linux" or any(file for files in drivers for file in files)


def micro_batch(cfg: DictConfig) -> int:
    """Return the rows that one process is handed at once: what it may take, or its share of the batch.

    With ``train.per_device_batch_tokens`` it is handed its whole share, and divides that.

    Raises:
        UserError: the batch does not fall into such parts.
    """
    total, count = cfg.train.global_batch_size, processes(cfg)
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


def check(cfg: DictConfig) -> None:
    """Refuse a strategy that is not installed, or that has nothing to divide.

    Raises:
        UserError: as said.
    """
    strategy = cfg.strategy
    for group in ("strategy", "launcher"):
        needed = cfg[group].requires
        if needed and importlib.util.find_spec(needed) is None:
            raise UserError(f"{group}={cfg[group].name} needs {needed}: pip install 'alignzoo[{needed}]'.")
    if strategy.args and processes(cfg) == 1:
        raise UserError(
            f"strategy={strategy.name} divides a model between processes, and there is one: add strategy.processes=N, "
            "or take strategy=single."
        )
    micro_batch(cfg)
    if strategy.restarts and cfg.launcher.name == "ray":
        raise UserError("launcher=ray starts no process again: leave strategy.restarts out, and go on by resume=auto.")
    known = strategy.rendezvous or ranks.joined() or rendezvous.named() or cfg.launcher.name == "ray"
    if strategy.nodes == 1 or known:
        return
    if not slurm.in_step():
        raise UserError(
            "strategy.nodes: add strategy.rendezvous=HOST:PORT, where HOST is the first machine's; "
            "in a Slurm job, start it with srun."
        )
    slurm.check(strategy.nodes)


def begin(cfg: DictConfig, device: str) -> None:
    """Bring the processes together, before anything is loaded."""
    if "deepspeed" in cfg.strategy.args and device == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    ranks.meet(device, seconds(cfg.strategy.patience, "strategy.patience") or 0)
    if "deepspeed" in cfg.strategy.args and device == "cpu":
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)


def check_divided(cfg: DictConfig, trainer: Any) -> None:
    """Refuse a run whose strategy was quietly exchanged: accelerate runs plain DDP where FSDP needs GPUs.

    Raises:
        UserError: as said.
    """
    kind = trainer.accelerator.distributed_type.value
    for name in ("fsdp", "deepspeed"):
        if name in cfg.strategy.args and kind != name.upper():
            raise UserError(
                f"strategy={cfg.strategy.name} needs GPUs: on the {trainer.args.device.type} take strategy=ddp."
            )

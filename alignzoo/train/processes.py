"""Makes a run's process group, and checks that its strategy is in effect."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from alignzoo.system import ranks
from alignzoo.system.device import choose_device
from alignzoo.system.errors import UserError
from alignzoo.system.signals import parse_duration

if TYPE_CHECKING:
    from omegaconf import DictConfig


def join_launched_processes(cfg: DictConfig) -> None:
    """Make the process group of a run that was started in several processes, before its configuration is checked.

    Raises:
        UserError: the device is not here, or ``strategy.patience`` is not a duration.
    """
    join_processes(
        cfg,
        device=choose_device(cfg.strategy.device),
        patience=parse_duration(cfg.strategy.patience, "strategy.patience") or 0.0,
    )


def join_processes(cfg: DictConfig, device: str, patience: float) -> None:
    """Make the process group, before anything is loaded; nothing happens where there is one process.

    ``patience``: seconds that a process waits for the others before contact counts as lost.
    """
    deepspeed_on_cpu = "deepspeed" in cfg.strategy.args and device == "cpu"
    if deepspeed_on_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    ranks.join_process_group(device, patience)
    if deepspeed_on_cpu:
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)


def check_strategy_in_effect(cfg: DictConfig, trainer: Any) -> None:
    """Refuse a run whose strategy was silently replaced: accelerate runs plain DDP where FSDP needs GPUs.

    Raises:
        UserError: it was replaced.
    """
    kind = trainer.accelerator.distributed_type.value
    for name in ("fsdp", "deepspeed"):
        if name in cfg.strategy.args and kind != name.upper():
            raise UserError(
                f"strategy={cfg.strategy.name} needs GPUs: on the {trainer.args.device.type} take strategy=ddp."
            )


def refuse_sharded_weights(cfg: DictConfig, asked: str) -> None:
    """Refuse what ``asked`` the model during the training, where processes hold a share of each weight.

    Raises:
        UserError: they do.
    """
    if any(name in cfg.strategy.args for name in ("fsdp", "deepspeed")):
        raise UserError(
            f"{asked}: strategy={cfg.strategy.name} holds a share of each weight on each process: "
            "use strategy=single or ddp, or leave it out."
        )

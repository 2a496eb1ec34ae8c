"""Checks the group ``average``, by which the run's model is an average over its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Arguments of a strategy under which each process holds a share of the weights.
SHARDING = {"fsdp", "deepspeed"}


def check_average(cfg: DictConfig) -> None:
    """Refuse an average of weights of which each process holds a share, or in whose place others are loaded at the end.

    Raises:
        UserError: it is one of these.
    """
    if cfg.average.rule == "none":
        return
    if SHARDING & {*cfg.strategy.args}:
        raise UserError(
            f"average.rule={cfg.average.rule} is for one process or strategy=ddp, not for strategy={cfg.strategy.name}."
        )
    if cfg.train.get("load_best_model_at_end"):
        raise UserError(
            f"average.rule={cfg.average.rule} and train.load_best_model_at_end both choose the run's model: take one."
        )

"""Looks at the learning rate: whether weights of low precision move at it, and whether it is far from the published."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def check_low_precision(cfg: DictConfig) -> None:
    """Refuse a rate below 0, and one at which weights of low precision would not move.

    bf16 keeps 8 bits: near 0.02, a usual weight, its step is 8e-5, and an AdamW step of half that is lost.

    Raises:
        UserError: what to set instead.
    """
    rate = cfg.method.get("learning_rate")
    if rate is not None and rate < 0:
        raise UserError(f"method.learning_rate={rate} must be at least 0.")
    if cfg.peft.name == "none" and cfg.model.dtype in ("bfloat16", "float16") and rate is not None and rate < 4e-5:
        raise UserError(
            f"model.dtype={cfg.model.dtype} with method.learning_rate={rate} would move almost no weight.\n"
            "Use model.dtype=float32 (train.precision=bf16 keeps the speed), or peft=lora."
        )


def warn_learning_rate(cfg: DictConfig) -> None:
    """Warn of a rate of full training for an adapter, and of ten times the published one."""
    rates, rate, kind = cfg.method.get("learning_rates"), cfg.method.get("learning_rate"), cfg.peft.rate
    if not rates or rate is None:
        return
    if kind == "adapter" and rate <= rates.full:
        log.warning(
            "method.learning_rate=%g is a rate for full training: an adapter needs about %g.", rate, rates.adapter
        )
    if rate >= 10 * rates[kind]:
        log.warning(
            "method.learning_rate=%g is %.0f times the published %g: watch for collapse.",
            rate,
            rate / rates[kind],
            rates[kind],
        )

"""What the methods share whose loss is one of those that TRL's DPOTrainer has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo import DataFormat, Method, PairLoss, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig


def pin(loss: str, *free: str) -> dict[str, Any]:
    """Return ``pinned`` for TRL's loss type ``loss``: all options of its losses are fixed, but for ``free``."""
    return {**{key: value for key, value in PairLoss.pinned.items() if key not in free}, "loss_type": [loss]}


class TRLLoss(Method):
    """A loss of TRL's DPOTrainer under the name of its paper; subclasses pin it, and give the paper's equation."""

    data = DataFormat.PREFERENCE
    needs_reference = True
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"
    whole_logits = False

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a beta that reverses preferences."""
        check_beta(cfg)

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """A mean over pairs."""
        return True

"""What the methods share that need no group of completions to one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import UserError

from .group_loss import GroupLoss, check_clip

if TYPE_CHECKING:
    from omegaconf import DictConfig


class Ungrouped(GroupLoss):
    """A method with a baseline from elsewhere than the other completions to the same prompt."""

    config = "alignzoo_plugins.online.trainers.config:UngroupedConfig"
    options = frozenset()

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a batch of parts of groups, and a penalty or clip range that is none."""
        check_clip(cfg)
        group, batch = cfg.method.num_generations, cfg.train.global_batch_size
        if group < 1 or batch % group:
            raise UserError(f"train.global_batch_size={batch} must be a multiple of method.num_generations={group}.")
        if cfg.method.beta < 0:
            raise UserError(f"method.beta={cfg.method.beta} must be 0 (no KL penalty) or above.")

"""Dr. GRPO: GRPO without its division by lengths and by the group's standard deviation.

Liu et al., 2025, "Understanding R1-Zero-Like Training: A Critical Perspective", https://arxiv.org/abs/2503.20783. GRPO
divides each completion's loss by its length, which favours long wrong ones, and each advantage by its group's standard
deviation, which favours prompts that are too easy or too hard. Here a batch's loss is the sum over its tokens, over the
greatest number that it could hold (the paper's listing 1: a constant), and an advantage is the reward less the mean.

Data: prompts, and rewards (`reward=...`). Beta: 0 in the paper. 8 completions a prompt, of up to 3,000 tokens, in the
authors' code. Learning rate: 1e-6 (authors' code, 7B), as GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import average_groups, clip_gain, compute_ratio, penalise
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DrGRPO(GroupLoss):
    """Dr. GRPO (Liu et al., 2025): GRPO without division by a completion's length or a group's spread."""

    name = "dr_grpo"
    pinned = pin(loss_type="dr_grpo", scale_rewards="none")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Liu et al., 2025, Dr. GRPO's objective, over the constant of listing 1."""
        advantages = (batch.rewards - average_groups(batch.rewards, batch.groups))[:, None]
        ratio, mask = compute_ratio(batch), batch["completion"].mask
        losses = (penalise(cfg, batch, ratio) - clip_gain(cfg, ratio, advantages)) * mask
        loss: Tensor = losses.sum() / (len(mask) * cfg.method.max_completion_length)
        return loss

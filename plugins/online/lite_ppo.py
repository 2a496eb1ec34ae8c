"""Lite PPO: two parts that were found to suffice, on PPO's clipped loss without a value model.

Liu et al., 2025, "Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning", https://arxiv.org/abs/2508.08221. An
advantage is the reward less its group's mean, over the standard deviation of all rewards of the batch; every token of
the batch weighs the same.

Data: prompts, and rewards (`reward=...`). 8 completions a prompt, sampled at a temperature of 0.99 from the 100
likeliest tokens that hold 0.99 of the probability; no KL penalty (paper). Learning rate: GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import average_groups, average_tokens, clip_gain, compute_ratio, penalise
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class LitePPO(GroupLoss):
    """Lite PPO (Liu et al., 2025): the group's mean, the batch's standard deviation, and a mean over tokens."""

    name = "lite_ppo"
    options = frozenset()  # no group of its batch can be replaced
    pinned = pin(loss_type="dapo", scale_rewards="batch")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Liu et al., 2025, group-level mean and batch-level standard deviation, token-level loss."""
        centred = batch.rewards - average_groups(batch.rewards, batch.groups)
        advantages = (centred / batch.rewards.std())[:, None]
        ratio = compute_ratio(batch)
        return average_tokens(batch, penalise(cfg, batch, ratio) - clip_gain(cfg, ratio, advantages))

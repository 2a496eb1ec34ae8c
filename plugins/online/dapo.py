"""DAPO: decoupled clip, a mean over tokens, and no loss from completions that were cut off.

Yu et al., 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", https://arxiv.org/abs/2503.14476.
GRPO's groups; the ratio may rise further (`epsilon_high`) than it may fall; every token of a batch weighs the same;
completions that ran into the greatest length are left out of the loss (overlong filtering); no KL penalty.

Prompts whose completions all earn the same are replaced by others (dynamic sampling, section 3.2, `dynamic_sampling`).

The soft overlong punishment, a reward that falls before the greatest length, is not in it: alignzoo does not have it.

Data: prompts, and rewards (`reward=...`). Clip range 0.2 and 0.28, 16 completions a prompt, learning rate 1e-6 (paper,
section 4.1, 32B).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import clip_gain, compute_ratio, penalise, standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DAPO(GroupLoss):
    """DAPO (Yu et al., 2025): the ratio may rise further than fall, a mean over tokens, groups without spread anew."""

    name = "dapo"
    pinned = pin("mask_truncated_completions", loss_type="dapo")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Yu et al., 2025, DAPO's objective, with overlong filtering."""
        advantages = standardise_groups(batch.rewards, batch.groups)[:, None]
        ratio, mask = compute_ratio(batch), batch["completion"].mask
        if cfg.method.mask_truncated_completions:
            mask = mask * ~batch.truncated[:, None]
        losses = penalise(cfg, batch, ratio) - clip_gain(cfg, ratio, advantages)
        loss: Tensor = (losses * mask).sum() / mask.sum().clamp(min=1)
        return loss

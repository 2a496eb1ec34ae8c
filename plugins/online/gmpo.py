"""Geometric-Mean Policy Optimization: GRPO with the geometric mean of a completion's ratios.

Zhao et al., 2025, "Geometric-Mean Policy Optimization", https://arxiv.org/abs/2507.20673. The ratios of a completion's
tokens are clipped one by one, in logarithms, and only where a token moves the way that its advantage wants; their
geometric mean, which outliers move less than GRPO's arithmetic one, weighs the advantage.

Data: prompts, and rewards (`reward=...`). Clip range: ratios between exp(-0.4) and exp(0.4) in the paper, far wider
than GRPO's. No KL penalty. Learning rate: GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class GMPO(GroupLoss):
    """Geometric-Mean Policy Optimization (Zhao et al., 2025): GRPO with the geometric mean of a completion's ratios."""

    name = "gmpo"
    trainer = "alignzoo_plugins.online.trainers.gmpo:GMPOTrainer"
    pinned = {**pin(), "beta": 0.0}

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Zhao et al., 2025, GMPO's objective, with signs that make each clip one of a gain."""
        import torch

        completions, low = batch["completion"], cfg.method.epsilon
        high = cfg.method.get("epsilon_high") or low
        advantages = standardise_groups(batch.rewards, batch.groups)
        sign = advantages.sign()[:, None]
        gain = sign * (completions.policy - completions.old)
        bound = torch.where(sign > 0, torch.tensor(float(high)), torch.tensor(float(low)))
        logs = (sign * torch.minimum(gain, bound) * completions.mask).sum(-1) / completions.lengths
        loss: Tensor = -(advantages * logs.exp()).mean()
        return loss

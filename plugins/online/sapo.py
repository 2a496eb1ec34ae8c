"""Soft Adaptive Policy Optimization: a smooth gate in place of the clip.

Gao et al., 2025, "Soft Adaptive Policy Optimization", https://arxiv.org/abs/2511.20347. A token's ratio r counts as 4 /
tau x sigmoid(tau (r - 1)), whose slope is 1 at r = 1 and fades on both sides; tau is larger where the advantage is
negative, so that such updates fade sooner.

Data: prompts, and rewards (`reward=...`). tau: 1.0 for positive and 1.05 for other advantages in the paper. Beta: 0.
Learning rate: GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, UserError

from .formulas import average_completions, compute_ratio, penalise, standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class SAPO(GroupLoss):
    """Soft Adaptive Policy Optimization (Gao et al., 2025): a smooth gate in place of the clip."""

    name = "sapo"
    pinned = pin(loss_type="sapo")

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a gate of no width."""
        super().check(cfg)
        for key in ("sapo_temperature_pos", "sapo_temperature_neg"):
            if cfg.method[key] <= 0:
                raise UserError(f"method.{key}={cfg.method[key]} must be above 0: the gate divides by it.")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Gao et al., 2025, SAPO's objective and gate."""
        import torch

        advantages = standardise_groups(batch.rewards, batch.groups)[:, None]
        rising, falling = cfg.method.sapo_temperature_pos, cfg.method.sapo_temperature_neg
        tau = torch.where(advantages > 0, torch.tensor(float(rising)), torch.tensor(float(falling)))
        ratio = compute_ratio(batch)
        gate = 4 / tau / (1 + (-tau * (ratio - 1)).exp())
        return average_completions(batch, penalise(cfg, batch, ratio) - gate * advantages)

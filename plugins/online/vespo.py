"""VESPO: completions sampled by an older policy weigh by a smooth function of their importance.

Shen et al., 2026, "VESPO: Variational Sequence-Level Soft Policy Optimization for Stable Off-Policy LLM Training",
https://arxiv.org/abs/2602.10693. W is a whole completion's ratio, the product of its tokens' ratios, without a division
by its length. The policy gradient of each token is weighed by phi(W) = W^k exp(lambda (1 - W)), which is 1 at W = 1 and
fades on both sides; k and lambda are others for negative advantages.

Data: prompts, and rewards (`reward=...`). k and lambda: 2 and 3 for positive, 3 and 2 for negative advantages (TRL,
after the paper). Beta: 0. Learning rate: GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, UserError

from .formulas import average_tokens, compute_ratio, penalise, standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class VESPO(GroupLoss):
    """VESPO (Shen et al., 2026): a smooth weight of whole completions, which need not be the newest policy's."""

    name = "vespo"
    pinned = pin(loss_type="vespo")

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse exponents that let the weight grow without bound."""
        super().check(cfg)
        for key in ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"):
            if cfg.method[key] <= 0:
                raise UserError(f"method.{key}={cfg.method[key]} must be above 0, or the weight does not fade.")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Shen et al., 2026, the policy gradient with the kernel phi(W)."""
        import torch

        method, completions = cfg.method, batch["completion"]
        advantages = standardise_groups(batch.rewards, batch.groups)[:, None]
        importance = (completions.policy - completions.old).sum(-1, keepdim=True).exp().detach()
        rising = importance**method.vespo_k_pos * (method.vespo_lambda_pos * (1 - importance)).exp()
        falling = importance**method.vespo_k_neg * (method.vespo_lambda_neg * (1 - importance)).exp()
        weight = torch.where(advantages >= 0, rising, falling)
        penalty = penalise(cfg, batch, compute_ratio(batch))
        return average_tokens(batch, penalty - weight * advantages * completions.policy)

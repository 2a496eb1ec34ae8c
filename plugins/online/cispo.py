"""CISPO: the policy gradient with clipped importance weights, which loses no token.

MiniMax, 2025, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention",
https://arxiv.org/abs/2506.13585, equations 4 and 5. PPO's clip takes the gradient of a token away whose ratio has moved
too far; here the ratio is a weight without gradient, clipped from above, and every token's log-probability keeps its
own.

Data: prompts, and rewards (`reward=...`). `epsilon_high` is the bound of the weight itself, as TRL has it: the paper's
1 + epsilon. The paper sets no lower bound, and prints no upper one; Khatri et al., 2025 (ScaleRL,
https://arxiv.org/abs/2510.13786) take 5. Beta: 0. Learning rate: GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, UserError

from .formulas import average_tokens, compute_ratio, penalise, standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class CISPO(GroupLoss):
    """CISPO (MiniMax, 2025): clipped importance weights instead of a clipped gain, so that no token is dropped."""

    name = "cispo"
    pinned = pin(loss_type="cispo")

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a bound below 1, which shrinks every weight: it is that of the weight, not of its distance to 1."""
        super().check(cfg)
        if cfg.method.epsilon_high <= 1:
            raise UserError(
                f"method.epsilon_high={cfg.method.epsilon_high} must be above 1: it bounds the weight itself, e.g. 5."
            )

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """MiniMax, 2025, equations 4 and 5, without a lower bound."""
        advantages = standardise_groups(batch.rewards, batch.groups)[:, None]
        ratio = compute_ratio(batch)
        weight = ratio.detach().clamp(max=cfg.method.epsilon_high)
        return average_tokens(batch, penalise(cfg, batch, ratio) - weight * advantages * batch["completion"].policy)

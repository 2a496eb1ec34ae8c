"""Chi-squared Preference Optimization.

Huang et al., 2024, "Correcting the Mythos of KL-Regularization: Direct Alignment without Overoptimization via
Chi-Squared Preference Optimization", https://arxiv.org/abs/2407.13399. Loss: -log sigmoid(clip(beta x phi(u of chosen)
- beta x phi(u of rejected))), with phi(u) = u + log u and the ratio u of the policy's probability of a completion to
the start model's; DPO has phi(u) = log u.

Data: pairs. Beta scales the reward, as in DPO. Clip: the difference is cut off at this number on both sides (the
paper's 2 R_max, twice the largest reward), beyond which a pair teaches nothing. In u, a log-ratio above 20 nats counts
as 20, so that u stays finite. Learning rates: DPO's, as a place to start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

LARGEST = 20.0  #: nats; a ratio of 5e8


class ChiPO(PairLoss):
    """Chi-squared Preference Optimization (Huang et al., 2024): DPO that holds more firmly to the start model."""

    name = "chipo"
    needs_reference = True
    options = frozenset({"clip"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a bound that leaves nothing to learn."""
        check_beta(cfg)
        if cfg.method.clip is not None and cfg.method.clip <= 0:
            raise UserError(f"method.clip={cfg.method.clip} must be above 0, or null: the difference is not cut off.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The difference of ratios, and of their logarithms."""
        from torch.nn.functional import softplus

        chosen, rejected = pairs.chosen.log_ratio, pairs.rejected.log_ratio
        ratios = chosen.clamp(max=LARGEST).exp() - rejected.clamp(max=LARGEST).exp()
        margin = cfg.method.beta * (chosen - rejected + ratios)
        bound = math.inf if cfg.method.clip is None else cfg.method.clip
        loss: Tensor = softplus(-margin.clamp(-bound, bound))
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Huang et al., 2024, the loss of chi-squared preference optimization."""
        import torch
        from torch.nn.functional import logsigmoid

        rewards = []
        for name in ("chosen", "rejected"):
            log_ratio = batch[name].log_ratio.sum(-1)
            ratio = torch.minimum(log_ratio, torch.full_like(log_ratio, 20.0)).exp()
            rewards.append(cfg.method.beta * (ratio + log_ratio))
        difference = rewards[0] - rewards[1]
        if cfg.method.clip is not None:
            difference = difference.clip(-cfg.method.clip, cfg.method.clip)
        return -logsigmoid(difference).mean()

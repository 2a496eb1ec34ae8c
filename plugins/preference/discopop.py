"""Discovered Preference Optimization.

Lu et al., 2024, "Discovering Preference Optimization Algorithms with and for Large Language Models",
https://arxiv.org/abs/2406.08414, equation 5. Loss: a blend of -log sigmoid(m) and exp(-m), with DPO's m = beta x
(difference of log-ratios), the second weighed by sigmoid(m / tau).

Data: pairs. Beta: published value 0.05 (appendix B.1). Tau: 0.05 (appendix E). Learning rates: 5e-7 (appendix B.1).
It is not convex: found by a language model's search over losses.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, UserError, check_beta

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DiscoPOP(TRLLoss):
    """Discovered Preference Optimization (Lu et al., 2024): a blend of the logistic and the exponential loss."""

    name = "discopop"
    pinned = pin("discopop", "discopop_tau")

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a temperature at which the blend is not defined."""
        check_beta(cfg)
        if cfg.method.discopop_tau <= 0:
            raise UserError(f"method.discopop_tau={cfg.method.discopop_tau} must be above 0; the paper has 0.05.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """Half of each loss at a margin of 0."""
        return (math.log(2) + 1) / 2

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Lu et al., 2024, equation 5."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))

        margin = cfg.method.beta * (chosen - rejected)
        weight = (margin / cfg.method.discopop_tau).sigmoid()
        loss: Tensor = ((1 - weight) * -logsigmoid(margin) + weight * (-margin).exp()).mean()
        return loss

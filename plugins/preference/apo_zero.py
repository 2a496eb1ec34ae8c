"""Anchored Preference Optimization, zero.

D'Oosterlinck et al., 2024, "Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification
in Alignment", https://arxiv.org/abs/2408.06266, equation 7, plus a constant. Loss: 1 - sigmoid(beta c) + sigmoid(beta
r), with the log-ratios c of chosen and r of rejected.

Data: pairs whose chosen completions are better than the start model's own. Beta: 0.1, and learning rates: 2e-7
(published version, section 5.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class APOZero(TRLLoss):
    """Anchored Preference Optimization, zero (D'Oosterlinck et al., 2024): chosen more likely, rejected less."""

    name = "apo_zero"
    pinned = pin("apo_zero")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """Two sigmoids of 0."""
        return 1.0

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """D'Oosterlinck et al., 2024, equation 7, plus 1."""
        better, worse = ((cfg.method.beta * batch[name].log_ratio.sum(-1)).sigmoid() for name in ("chosen", "rejected"))
        loss: Tensor = (worse - better + 1).mean()
        return loss

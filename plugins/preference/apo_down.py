"""Anchored Preference Optimization, down.

D'Oosterlinck et al., 2024, "Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification
in Alignment", https://arxiv.org/abs/2408.06266, equation 8, plus a constant. Loss: sigmoid(beta c) + 1 - sigmoid(beta
(c - r)), with the log-ratios c of chosen and r of rejected.

Data: pairs whose chosen completions are worse than the start model's own: both become less likely, the rejected one
more so. Beta: 0.1, and learning rates: 2e-7 (published version, section 5.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class APODown(TRLLoss):
    """Anchored Preference Optimization, down (D'Oosterlinck et al., 2024): both less likely, rejected more so."""

    name = "apo_down"
    pinned = pin("apo_down")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """Two sigmoids of 0."""
        return 1.0

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """D'Oosterlinck et al., 2024, equation 8, plus 1."""
        chosen, rejected = (cfg.method.beta * batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))
        loss: Tensor = (chosen.sigmoid() - (chosen - rejected).sigmoid() + 1).mean()
        return loss

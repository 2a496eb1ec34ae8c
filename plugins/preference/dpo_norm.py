"""Length-normalised Direct Preference Optimization.

Lambert et al., 2024, "Tulu 3: Pushing Frontiers in Open Language Model Post-Training",
https://arxiv.org/abs/2411.15124. Loss: DPO's, on log-ratios that are averaged over the completion's tokens.

Data: pairs. Beta: far above DPO's, since a mean is smaller than a sum: 5 (Tulu 3, 8B and 70B). Learning rates: 5e-7
(Tulu 3, 8B).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DPONorm(TRLLoss):
    """Length-normalised DPO (Lambert et al., 2024): DPO on log-ratios per token, so that length does not count."""

    name = "dpo_norm"
    pinned = pin("sigmoid_norm")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Lambert et al., 2024, length-normalised DPO."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (batch[name].log_ratio.sum(-1) / batch[name].lengths for name in ("chosen", "rejected"))
        return -logsigmoid(cfg.method.beta * (chosen - rejected)).mean()

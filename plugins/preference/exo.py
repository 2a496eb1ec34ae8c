"""Efficient Exact Optimization.

Ji et al., 2024, "Towards Efficient Exact Optimization of Language Model Alignment", https://arxiv.org/abs/2402.00856,
equation 16. Loss: the Kullback-Leibler divergence from the softmax of beta times the log-ratios of a pair to the
labels (1 - label smoothing, label smoothing).

Data: pairs. Beta: 0.1 (movie reviews), 0.5 (summaries, dialogues; authors' code). Label smoothing: 1e-3, as TRL
recommends; at 0 the divergence is infinite. Learning rates: 1e-6 (authors' code).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, UserError, check_beta

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class EXO(TRLLoss):
    """Efficient Exact Optimization (Ji et al., 2024): the reverse KL to smoothed labels of a pair."""

    name = "exo"
    pinned = pin("exo_pair", "label_smoothing")

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse labels to which the divergence is infinite, and those that prefer the rejected completion."""
        check_beta(cfg)
        smoothing = cfg.method.label_smoothing
        if not 0 < smoothing < 0.5:
            raise UserError(
                f"method.label_smoothing={smoothing} must be above 0 and below 0.5 for exo; TRL recommends 0.001."
            )

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """From (1/2, 1/2) to the labels."""
        return -math.log(2) - math.log(cfg.method.label_smoothing * (1 - cfg.method.label_smoothing)) / 2

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Ji et al., 2024, equation 16."""
        import torch

        ratios = torch.stack([batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected")])
        labels = torch.tensor([[1 - cfg.method.label_smoothing], [cfg.method.label_smoothing]])
        policy = (cfg.method.beta * ratios).softmax(0)
        loss: Tensor = (policy * (policy / labels).log()).sum(0).mean()
        return loss

"""Noise Contrastive Alignment.

Chen et al., 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards",
https://arxiv.org/abs/2402.05369, for pairs (K = 2). Loss: -log sigmoid(beta c) - 1/2 log sigmoid(-beta c) - 1/2 log
sigmoid(-beta r), with the log-ratios c of chosen and r of rejected.

Data: pairs. Beta scales the log-ratios, as in DPO: 0.01 with learning rates of 5e-6 (Mistral 7B, adapters; authors'
code). The chosen completion's likelihood is held up, where DPO only keeps it ahead of the rejected one's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class NCA(TRLLoss):
    """Noise Contrastive Alignment (Chen et al., 2024): keeps the chosen completion likely, not just ahead."""

    name = "nca"
    pinned = pin("nca_pair")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0), twice."""
        return 2 * math.log(2)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Chen et al., 2024, for pairs (K = 2)."""
        from torch.nn.functional import logsigmoid

        rewards = [cfg.method.beta * batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected")]
        noise = sum(logsigmoid(-reward) for reward in rewards) / len(rewards)
        loss: Tensor = -(logsigmoid(rewards[0]) + noise).mean()
        return loss

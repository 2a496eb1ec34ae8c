"""Alignment via Optimal Transport, on pairs.

Melnyk et al., 2024, "Distributional Preference Alignment of LLMs via Optimal Transport",
https://arxiv.org/abs/2406.05882, the paired variant with the logistic loss. The differences of log-probabilities
between chosen and rejected are sorted under the policy, and under the start model; the loss is -log sigmoid(beta x
(the one - the other of the same rank)).

Data: pairs. It sorts the pairs that are in one batch of one process: the loss depends on
`train.per_device_batch_size`, and of a batch of one pair it is DPO's. Beta: published value 0.01 (caption of
figure 2). Learning rates: DPO's, as a place to start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, UserError, check_beta

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class AOT(TRLLoss):
    """Alignment via Optimal Transport (Melnyk et al., 2024): compares the sorted margins of a batch."""

    name = "aot"
    pinned = pin("aot")

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse batches without anything to sort."""
        check_beta(cfg)
        if cfg.train.per_device_batch_size < 2:
            raise UserError("train.per_device_batch_size must be at least 2 for aot: it sorts the margins of a batch.")

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """The margins of a batch are sorted."""
        return False

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Melnyk et al., 2024, paired, with the logistic loss."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = batch["chosen"], batch["rejected"]
        policy, reference = (
            getattr(chosen, of).sum(-1) - getattr(rejected, of).sum(-1) for of in ("policy", "reference")
        )
        return -logsigmoid(cfg.method.beta * (policy.sort().values - reference.sort().values)).mean()

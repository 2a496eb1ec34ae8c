"""Statistical Rejection Sampling Optimization: its loss.

Liu et al., 2023, "Statistical Rejection Sampling Improves Preference Optimization", https://arxiv.org/abs/2309.06657,
the hinge loss on normalised likelihoods. Loss: max(0, 1 - beta x (log-ratio of chosen - log-ratio of rejected)), each
log-ratio summed over tokens, against the start model.

Data: pairs; the paper samples them from the optimal policy by rejection, which is not done here. Beta is the paper's
gamma, 0.05 in TRL's example for it: a pair has no loss once the chosen completion is ahead by 1 / beta nats. Learning
rates: DPO's, as a place to start from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class RSO(TRLLoss):
    """Hinge loss of RSO (Liu et al., 2023): zero once the chosen completion is ahead by 1 / beta nats."""

    name = "rso"
    pinned = pin("hinge")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """A margin of 0."""
        return 1.0

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Liu et al., 2023, hinge loss on normalised likelihoods."""
        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))

        loss: Tensor = (1 - cfg.method.beta * (chosen - rejected)).clamp(min=0).mean()
        return loss

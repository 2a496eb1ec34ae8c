"""Binary Classifier Optimization, on pairs.

Jung et al., 2024, "Binary Classifier Optimization for Large Language Model Alignment",
https://arxiv.org/abs/2404.04656. Loss: -log sigmoid(reward of chosen - shift) - log sigmoid(shift - reward of
rejected), with the reward beta x log-ratio, and the reward shift: the mean of the mean rewards of chosen and of
rejected completions, not differentiated.

Data: pairs. The shift is estimated on one batch of one process, where the authors' code keeps a running mean over
batches: the loss depends on `train.per_device_batch_size`. TRL's loss `bco_pair` leaves the shift out. Beta:
published value 0.01, learning rate 5e-7 (appendix C).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class BCO(PairLoss):
    """Binary Classifier Optimization (Jung et al., 2024): rewards of chosen and rejected on two sides of their mean."""

    name = "bco"
    needs_reference = True

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """The shift is a mean over the batch."""
        return False

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0), twice."""
        return 2 * math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """Each reward against the mean of all."""
        import torch
        from torch.nn.functional import softplus

        chosen, rejected = (cfg.method.beta * side.log_ratio for side in (pairs.chosen, pairs.rejected))
        shift = torch.cat([chosen, rejected]).mean().detach()
        loss: Tensor = softplus(shift - chosen) + softplus(rejected - shift)
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Jung et al., 2024, the loss with its reward shift."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (cfg.method.beta * batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))
        shift = (chosen.mean() + rejected.mean()).detach() / 2
        return -logsigmoid(chosen - shift).mean() - logsigmoid(-(rejected - shift)).mean()

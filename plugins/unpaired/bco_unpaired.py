"""Binary Classifier Optimization, on single completions.

Jung et al., 2024, "Binary Classifier Optimization for Large Language Model Alignment",
https://arxiv.org/abs/2404.04656. Loss of a good completion: -log sigmoid(reward - shift), of a bad one: -log
sigmoid(shift - reward), with the reward beta x log-ratio. The reward shift is the mean reward of all completions that
the training has seen, the batch included, and not differentiated (as in the authors' code, TRL's former BCOTrainer).

Data: single completions, each good or bad; pairs are taken apart into one of each. The density ratio, by which the
authors' code weighs bad completions whose prompts are unlike those of the good ones, is left out: it needs a model of
embeddings. Beta: published value 0.01, learning rate 5e-7 (appendix C).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import AnswerLoss, Batch, Marked

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class BCOUnpaired(AnswerLoss):
    """Binary Classifier Optimization, unpaired (Jung et al., 2024): a classifier of good and bad, around a shift."""

    name = "bco_unpaired"
    needs_reference = True

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """The shift is a mean over the batches so far."""
        return False

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, rows: Marked) -> Tensor:
        """Each reward against the mean of all so far, on the side that its label asks for."""
        from torch.nn.functional import softplus

        rewards = cfg.method.beta * rows.log_ratio
        behind = rows.running_mean("reward", rewards) - rewards
        loss: Tensor = softplus(behind.where(rows.labels, -behind))
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Jung et al., 2024, with the reward shift of a first batch."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        rewards = batch["completion"].log_ratio.sum(-1) * cfg.method.beta
        shifted = rewards - rewards.detach().mean()
        return binary_cross_entropy_with_logits(shifted, batch.labels.to(shifted.dtype))

"""Distributionally Robust Direct Preference Optimization.

Wu et al., 2024, "Towards Robust Alignment of Language Models: Distributionally Robustifying Direct Preference
Optimization", https://arxiv.org/abs/2407.07880. Loss: -b log mean exp(-L / b), with DPO's loss L of each pair of a
batch and the paper's beta' b: pairs with a large loss, which may be swapped, count less.

Data: pairs, some of them swapped. The mean is that of one batch of one process: the loss depends on
`train.per_device_batch_size`. Beta: 0.1, and robustness (beta'): 1.0 in the authors' examples; DPO as it goes to
infinity. Learning rates: DPO's, as a place to start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DrDPO(PairLoss):
    """Distributionally robust DPO (Wu et al., 2024): pairs with a large loss, perhaps swapped, count less."""

    name = "dr_dpo"
    needs_reference = True
    options = frozenset({"robustness"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse weights that are not defined."""
        check_beta(cfg)
        if cfg.method.robustness <= 0:
            raise UserError(
                f"method.robustness={cfg.method.robustness} must be above 0; the larger, the nearer to DPO."
            )

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """A soft minimum over the pairs of a batch."""
        return False

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The soft minimum of the pairs' losses, as a log-sum-exp."""
        from torch.nn.functional import softplus

        losses = softplus(cfg.method.beta * (pairs.rejected.log_ratio - pairs.chosen.log_ratio))
        soft = (-losses / cfg.method.robustness).logsumexp(0) - math.log(len(losses))
        loss: Tensor = -cfg.method.robustness * soft
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Wu et al., 2024, the loss of Dr. DPO."""
        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))

        likelihoods = (cfg.method.beta * (chosen - rejected)).sigmoid()
        loss: Tensor = -cfg.method.robustness * (likelihoods ** (1 / cfg.method.robustness)).mean().log()
        return loss

"""Focal Preference Optimization.

Liu et al., 2025, "FocalPO: Enhancing Preference Optimizing by Focusing on Correct Preference Rankings",
https://arxiv.org/abs/2501.06645. Loss: -p^gamma log p, with DPO's probability p of a pair, sigmoid(beta x (log-ratio
of chosen - log-ratio of rejected)): pairs that are ranked wrongly count less.

Data: pairs. Beta: DPO's. The factor is differentiated too, so that a pair teaches the opposite where p is below
exp(-1 / gamma): keep gamma small. Gamma 0 is DPO. Learning rates: DPO's, as a place to start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class FocalPO(PairLoss):
    """Focal Preference Optimization (Liu et al., 2025): pairs that are ranked wrongly count less."""

    name = "focalpo"
    needs_reference = True
    options = frozenset({"gamma"})
    relatives = {"dpo": {"gamma": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse an exponent that turns pairs around which the start model ranks neither way."""
        check_beta(cfg)
        if not 0 <= cfg.method.gamma < 1 / math.log(2):
            raise UserError(
                f"method.gamma={cfg.method.gamma} must be from 0 (DPO) to below 1.44 for focalpo: from there on, a "
                "pair teaches the opposite at the start."
            )

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """At a probability of 1/2."""
        return float(math.log(2) * 0.5 ** float(cfg.method.gamma))

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's loss L, times exp(-gamma L)."""
        from torch.nn.functional import softplus

        dpo = softplus(cfg.method.beta * (pairs.rejected.log_ratio - pairs.chosen.log_ratio))
        loss: Tensor = dpo * (-cfg.method.gamma * dpo).exp()
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Liu et al., 2025, DPO's loss with its modulating factor."""
        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))
        likelihood = (cfg.method.beta * (chosen - rejected)).sigmoid()
        loss: Tensor = -(likelihood**cfg.method.gamma * likelihood.log()).mean()
        return loss

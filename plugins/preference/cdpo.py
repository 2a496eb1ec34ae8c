"""Conservative Direct Preference Optimization.

Mitchell, 2023, "A note on DPO with noisy preferences & relationship to IPO", https://ericmitchell.ai/cdpo.pdf,
equation 3. Loss: (1 - e) L + e L of the swapped pair, with DPO's loss L: a pair is right with probability 1 - e, and
the margin aims at log((1 - e) / e) / beta nats.

Data: pairs, some of them swapped. Beta: DPO's. Label smoothing: e, above 0 (else it is DPO) and below 0.5. Learning
rates: DPO's, as a place to start from. TRL's DPOTrainer ignores label smoothing with DPO's loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

from .trl_loss import pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class ConservativeDPO(PairLoss):
    """Conservative DPO (Mitchell, 2023): labels are wrong with a known probability, so margins stay finite."""

    name = "cdpo"
    needs_reference = True
    pinned = pin("sigmoid", "label_smoothing")
    relatives = {"dpo": {"label_smoothing": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a probability that leaves plain DPO, or nothing to learn."""
        check_beta(cfg)
        wrong = cfg.method.label_smoothing
        if not 0 < wrong < 0.5:
            raise UserError(
                f"method.label_smoothing={wrong} must be above 0 and below 0.5 for cdpo: how likely a label is wrong."
            )

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The cross-entropy between the smoothed label and the probability of the pair."""
        from torch.nn.functional import softplus

        margin = cfg.method.beta * (pairs.chosen.log_ratio - pairs.rejected.log_ratio)
        loss: Tensor = softplus(-margin) + cfg.method.label_smoothing * margin
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Mitchell, 2023, equation 3."""
        from torch.nn.functional import logsigmoid

        wrong = cfg.method.label_smoothing
        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))

        right = logsigmoid(cfg.method.beta * (chosen - rejected))
        loss: Tensor = -((1 - wrong) * right + wrong * logsigmoid(cfg.method.beta * (rejected - chosen))).mean()
        return loss

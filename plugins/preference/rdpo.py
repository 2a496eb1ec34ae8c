"""Robust Direct Preference Optimization.

Chowdhury et al., 2024, "Provably Robust DPO: Aligning Language Models with Noisy Feedback",
https://arxiv.org/abs/2403.00409. Loss: ((1 - e) L - e L of the swapped pair) / (1 - 2 e), with DPO's loss L and the
share e of swapped labels, so that its mean over noisy labels is that of DPO over clean ones.

Data: pairs, some of them swapped. Beta: published value 0.1 (appendix B). Label smoothing is the share of swapped
pairs, above 0 (else it is DPO) and below 0.5; published value 0.1 (section 6). Learning rates: DPO's, as a place to
start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, UserError, check_beta

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class RobustDPO(TRLLoss):
    """Robust DPO (Chowdhury et al., 2024): DPO's loss as if no label were swapped, on average."""

    name = "rdpo"
    pinned = pin("robust", "label_smoothing")
    relatives = {"dpo": {"label_smoothing": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a share of swapped labels that leaves plain DPO, or nothing to learn."""
        check_beta(cfg)
        share = cfg.method.label_smoothing
        if not 0 < share < 0.5:
            raise UserError(
                f"method.label_smoothing={share} must be above 0 and below 0.5 for rdpo: "
                "it is the share of swapped pairs."
            )

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Chowdhury et al., 2024: the unbiased loss of noisy pairs."""
        from torch.nn.functional import logsigmoid

        share = cfg.method.label_smoothing
        margin = cfg.method.beta * (batch["chosen"].log_ratio.sum(-1) - batch["rejected"].log_ratio.sum(-1))
        clean, swapped = -logsigmoid(margin), -logsigmoid(-margin)
        loss: Tensor = (((1 - share) * clean - share * swapped) / (1 - 2 * share)).mean()
        return loss

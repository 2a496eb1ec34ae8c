"""DPO-Positive.

Pal et al., 2024, "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive",
https://arxiv.org/abs/2402.13228. Loss: -log sigmoid(beta x (c - r - lambda x max(0, -c))), with the log-ratios c of
chosen and r of rejected: a chosen completion that becomes less likely than under the start model is penalised.

Data: pairs; made for those that differ in few tokens. Beta 0.3 and lambda 50 in the paper. Learning rates: DPO's, as
a place to start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class DPOPositive(PairLoss):
    """DPO-Positive (Pal et al., 2024): DPO that does not let the chosen completion become less likely."""

    name = "dpop"
    needs_reference = True
    options = frozenset({"penalty"})
    relatives = {"dpo": {"penalty": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight that rewards what is to be penalised."""
        check_beta(cfg)
        if cfg.method.penalty < 0:
            raise UserError(f"method.penalty={cfg.method.penalty} must be 0 (plain DPO) or above.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's margin, less what the chosen completion has lost."""
        from torch.nn.functional import softplus

        chosen, rejected = pairs.chosen.log_ratio, pairs.rejected.log_ratio
        margin = chosen - rejected - cfg.method.penalty * (-chosen).relu()
        loss: Tensor = softplus(-cfg.method.beta * margin)
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Pal et al., 2024, the loss of DPO-Positive."""
        import torch
        from torch.nn.functional import logsigmoid

        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))

        lost = torch.maximum(torch.zeros_like(chosen), (batch["chosen"].reference - batch["chosen"].policy).sum(-1))
        return -logsigmoid(cfg.method.beta * (chosen - rejected - cfg.method.penalty * lost)).mean()

"""Calibrated Direct Preference Optimization.

Xiao et al., 2024, "Cal-DPO: Calibrated Direct Preference Optimization for Language Model Alignment",
https://arxiv.org/abs/2412.14516. Loss: -log sigmoid(c - r) + w x ((c - 1 / (2 beta))^2 + (r + 1 / (2 beta))^2), with
the log-ratios c of chosen and r of rejected: each has a target, beside the pair's order.

Data: pairs. Beta scales the targets only, not the first term: 1 / (2 beta) nats. 0.001 and 0.002, weight w 0.5 and a
learning rate of 5e-7 in the authors' code. The loss is large from the start, as SPPO's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class CalDPO(PairLoss):
    """Calibrated DPO (Xiao et al., 2024): each log-ratio of a pair has a target, beside their order."""

    name = "cal_dpo"
    needs_reference = True
    options = frozenset({"calibration"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight that drives log-ratios away from their targets."""
        check_beta(cfg)
        if cfg.method.calibration < 0:
            raise UserError(f"method.calibration={cfg.method.calibration} must be 0 (no targets) or above.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0), and two log-ratios of 0."""
        return math.log(2) + float(cfg.method.calibration / (2 * cfg.method.beta**2))

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The order of the pair, and the squared distance of each log-ratio from its target."""
        from torch.nn.functional import softplus

        target = 0.5 / cfg.method.beta
        chosen, rejected = pairs.chosen.log_ratio, pairs.rejected.log_ratio
        distance = (chosen - target).square() + (rejected + target).square()
        loss: Tensor = softplus(rejected - chosen) + cfg.method.calibration * distance
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Xiao et al., 2024, DPO's order of log-ratios with their calibration."""
        import torch
        from torch.nn.functional import logsigmoid, mse_loss

        ratios = torch.stack([batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected")])
        targets = torch.tensor([[1.0], [-1.0]]).expand_as(ratios) / (2 * cfg.method.beta)
        calibration = 2 * mse_loss(ratios, targets)  # the mean is over chosen and rejected
        loss: Tensor = cfg.method.calibration * calibration - logsigmoid(ratios[0] - ratios[1]).mean()
        return loss

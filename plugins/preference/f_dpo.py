"""DPO under another f-divergence.

Wang et al., 2023, "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence
Constraints", https://arxiv.org/abs/2309.16240. Loss: -log sigmoid(beta f'(u of chosen) - beta f'(u of rejected)),
with the ratio u of the policy's probability of a completion to the start model's, and the derivative f' of the
divergence: -1 / u (forward KL), log(2 u / (1 + u)) (Jensen-Shannon), (1 - u^-a) / a (alpha), log u + 1 (reverse KL,
which is DPO).

Data: pairs. Beta: DPO's, as a place to start from. In TRL the paper's a is 1 - `f_alpha_divergence_coef`. Learning
rates: DPO's, as a place to start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, UserError, check_beta

from .trl_loss import TRLLoss, pin
from .trl_options import add_losses, check_options, compare_pairs

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class FDPO(TRLLoss):
    """f-DPO (Wang et al., 2023): DPO held to the start model by Jensen-Shannon, forward KL or an alpha-divergence."""

    name = "f_dpo"
    pinned = pin("sigmoid", "f_divergence_type", "f_alpha_divergence_coef")
    relatives = {"dpo": {"f_divergence_type": "reverse_kl"}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a divergence that TRL names only at its first step, and an alpha that is not one."""
        check_beta(cfg)
        check_options(cfg, ["sigmoid"])
        coefficient = cfg.method.f_alpha_divergence_coef
        if not 0 < coefficient < 1:
            raise UserError(f"method.f_alpha_divergence_coef={coefficient} must be above 0 and below 1.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Wang et al., 2023, the derivative of each divergence."""
        return add_losses(cfg, batch, ["sigmoid"], {"sigmoid": compare_pairs})

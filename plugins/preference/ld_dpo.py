"""Length-desensitised Direct Preference Optimization.

Liu et al., 2024, "Length Desensitization in Direct Preference Optimization", https://arxiv.org/abs/2409.06411. Loss:
DPO's, on log-probabilities in which tokens beyond the length of the pair's shorter completion weigh alpha, not 1,
under policy and start model.

Data: pairs. Beta: DPO's. Alpha (`ld_alpha`): from 0, where the rest of the longer completion does not count, to 1,
where it is DPO; 0.5 to start from (TRL). Learning rates: DPO's, as a place to start from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignzoo import Batch, check_beta

from .trl_loss import TRLLoss, pin
from .trl_options import add_losses, check_options, compare_pairs

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class LDDPO(TRLLoss):
    """Length-desensitised DPO (Liu et al., 2024): what the longer completion has more counts less."""

    name = "ld_dpo"
    pinned = pin("sigmoid", "ld_alpha")
    relatives = {"dpo": {"ld_alpha": 1}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight that is not one."""
        check_beta(cfg)
        check_options(cfg, ["sigmoid"])

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Liu et al., 2024, the modified likelihood in DPO's loss."""
        return add_losses(cfg, batch, ["sigmoid"], {"sigmoid": compare_pairs})

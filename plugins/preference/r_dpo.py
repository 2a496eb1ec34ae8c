"""Length-regularised Direct Preference Optimization.

Park et al., 2024, "Disentangling Length from Quality in Direct Preference Optimization",
https://arxiv.org/abs/2403.19159. Loss: -log sigmoid(beta x (log-ratio of chosen - log-ratio of rejected) + alpha x
(tokens of chosen - tokens of rejected)). It follows from an objective that takes alpha from the reward for each
token: a pair whose chosen completion is the longer one is explained by its length in part, and teaches less.

Data: pairs. Beta and alpha: Meng et al. (2024) searched 0.01, 0.05 and 0.1 for beta, and 0.05, 0.1, 0.5 and 1.0 for
alpha. Learning rates: 3e-7 to 1e-6 there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class LengthRegularisedDPO(PairLoss):
    """Length-regularised DPO (Park et al., 2024): a longer chosen completion teaches less, a shorter one more."""

    name = "r_dpo"
    needs_reference = True
    options = frozenset({"alpha"})
    relatives = {"dpo": {"alpha": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight that rewards length."""
        check_beta(cfg)
        if cfg.method.alpha < 0:
            raise UserError(
                f"method.alpha={cfg.method.alpha} must be 0 (plain DPO) or above: below, length is rewarded."
            )

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's margin, and the difference in length."""
        from torch.nn.functional import softplus

        longer = cfg.method.alpha * (pairs.chosen.lengths - pairs.rejected.lengths)
        loss: Tensor = softplus(cfg.method.beta * (pairs.rejected.log_ratio - pairs.chosen.log_ratio) - longer)
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Park et al., 2024, length-regularised DPO."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (
            cfg.method.beta * batch[name].log_ratio.sum(-1) + cfg.method.alpha * batch[name].lengths
            for name in ("chosen", "rejected")
        )
        return -logsigmoid(chosen - rejected).mean()

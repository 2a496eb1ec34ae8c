"""Direct Preference Optimization with an offset.

Amini et al., 2024, "Direct Preference Optimization with an Offset", https://arxiv.org/abs/2402.10571. Loss: -log
sigmoid(beta x (log-ratio of chosen - log-ratio of rejected) - alpha x log(difference of their scores)): a pair whose
completions differ more in score must come to differ more in reward.

Data: pairs with a `margin` above 0, or with two scores, or scored completions. Beta 0.05, 0.5 and 0.7, alpha 0.5 and 1
and a learning rate of 5e-7 in the authors' code. A difference of 1 is DPO; below it, the offset is negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from torch import Tensor


class ODPO(PairLoss):
    """DPO with an offset (Amini et al., 2024): completions that differ more in score must differ more in reward."""

    name = "odpo"
    needs_reference = True
    options = frozenset({"alpha"})
    relatives = {"dpo": {"alpha": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse an offset that asks less of pairs whose completions differ more."""
        check_beta(cfg)
        if cfg.method.alpha < 0:
            raise UserError(f"method.alpha={cfg.method.alpha} must be 0 (plain DPO) or above.")

    @classmethod
    def further_columns(cls, cfg: DictConfig) -> Mapping[str, bool]:
        """The difference of the scores."""
        return {"margin": True}

    @classmethod
    def check_rows(cls, cfg: DictConfig, rows: Dataset) -> None:
        """Refuse differences without a logarithm."""
        wrong = [place for place, margin in enumerate(rows["margin"]) if margin <= 0]
        if wrong:
            raise UserError(
                f"odpo takes the logarithm of a pair's margin: {len(wrong)} of {len(rows)} pairs have none above 0, as "
                f"{rows[wrong[0]]['id']}.\nLeave these pairs out, or use method=dpo, which reads no margin."
            )

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's margin less the offset."""
        from torch.nn.functional import softplus

        offset = cfg.method.alpha * pairs.margin.log()
        loss: Tensor = softplus(offset - cfg.method.beta * (pairs.chosen.log_ratio - pairs.rejected.log_ratio))
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Amini et al., 2024, DPO with an offset, the logarithm of the difference of scores."""
        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))
        likelihood = 1 / (1 + batch.margins**cfg.method.alpha * (cfg.method.beta * (rejected - chosen)).exp())
        loss: Tensor = -likelihood.log().mean()
        return loss

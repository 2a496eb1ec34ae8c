"""Iterative Reasoning Preference Optimization: its loss.

Pang et al., 2024, "Iterative Reasoning Preference Optimization", https://arxiv.org/abs/2404.19733. Loss:
DPO's, plus alpha times the chosen completion's negative log-likelihood per token.

Data: pairs; the paper samples them anew in each round, by whether an answer is right. Beta 0.1, alpha 1 and a
learning rate of 7e-7 in the paper. TRL's losses `[sigmoid, sft]` average the likelihood over all tokens of a batch,
where the paper does over each completion's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class RPO(PairLoss):
    """Iterative RPO's loss (Pang et al., 2024): DPO, with the likelihood of the chosen completion."""

    name = "rpo"
    needs_reference = True
    options = frozenset({"alpha"})
    relatives = {"dpo": {"alpha": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight that makes the chosen completions less likely."""
        check_beta(cfg)
        if cfg.method.alpha < 0:
            raise UserError(f"method.alpha={cfg.method.alpha} must be 0 (plain DPO) or above.")

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's loss and the mean log-probability of the chosen completion."""
        from torch.nn.functional import softplus

        contrast = softplus(cfg.method.beta * (pairs.rejected.log_ratio - pairs.chosen.log_ratio))
        loss: Tensor = contrast - cfg.method.alpha * pairs.chosen.mean_log_prob
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Pang et al., 2024, the loss with its likelihood term."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))

        likelihood = batch["chosen"].policy.sum(-1) / batch["chosen"].mask.sum(-1)
        loss: Tensor = (-logsigmoid(cfg.method.beta * (chosen - rejected)) - cfg.method.alpha * likelihood).mean()
        return loss

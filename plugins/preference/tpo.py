"""Triple Preference Optimization.

Saeidi et al., 2024, "Triple Preference Optimization: Achieving Better Alignment using a Single Step Optimization",
https://arxiv.org/abs/2405.16681. Loss: -log sigmoid(beta x (log-probability of chosen - that of rejected)), plus alpha
times the negative log-likelihood of a third, gold completion, without a reference model. The likelihood is the mean
over all gold tokens in a batch of one process, as in the authors' code: the loss depends on
`train.per_device_batch_size`.

Data: pairs with a third answer, the column `gold`. Beta 0.01, alpha 1 (base models) and 0.05 (instruction-tuned ones)
and learning rates of 5e-7 and 1e-6 in the authors' README (7B and 8B).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class TPO(PairLoss):
    """Triple Preference Optimization (Saeidi et al., 2024): a third answer is imitated while a pair is compared."""

    name = "tpo"
    options = frozenset({"alpha"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a weight at which gold completions have no part, or become less likely."""
        check_beta(cfg)
        if cfg.method.alpha <= 0:
            raise UserError(f"method.alpha={cfg.method.alpha} must be above 0. Without gold answers: method=cpo.")

    @classmethod
    def further_columns(cls, cfg: DictConfig) -> Mapping[str, bool]:
        """The third answer."""
        return {"gold_ids": True}

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """The likelihood is a mean over the tokens of a batch."""
        return False

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The margin of the pair, and the mean log-probability of gold tokens."""
        from torch.nn.functional import softplus

        contrast = softplus(cfg.method.beta * (pairs.rejected.log_prob - pairs.chosen.log_prob))
        loss: Tensor = contrast - cfg.method.alpha * pairs.gold.token_log_probs.sum() / pairs.gold.mask.sum()
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Saeidi et al., 2024, the pair's loss with the likelihood of the gold completions."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (cfg.method.beta * batch[name].policy.sum(-1) for name in ("chosen", "rejected"))
        likelihood = batch["gold"].policy[batch["gold"].mask.bool()].mean()
        loss: Tensor = -logsigmoid(chosen - rejected).mean() - cfg.method.alpha * likelihood
        return loss

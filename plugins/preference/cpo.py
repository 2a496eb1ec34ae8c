"""Contrastive Preference Optimization.

Xu et al., 2024, "Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine
Translation", https://arxiv.org/abs/2401.08417, section 3. Loss: -log sigmoid(beta x (log-probability of chosen - that
of rejected)), plus alpha times the negative log-likelihood of the chosen completions, without a reference model. The
likelihood is the mean over all their tokens in a batch of one process, as in the authors' code: the loss depends on
`train.per_device_batch_size`.

Data: pairs. Beta: published values 0.1 (paper), 0.01 to 0.1 (Meng et al., 2024, on chat). Alpha: 1.0, weight of the
likelihood. Learning rates: 1e-4 with adapters (authors' code), 3e-7 to 1e-6 on chat (Meng et al.).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class CPO(PairLoss):
    """Contrastive Preference Optimization (Xu et al., 2024): a likelihood term in the place of the reference model."""

    name = "cpo"
    options = frozenset({"alpha"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a beta that reverses preferences, and a weight that makes the chosen completions less likely."""
        check_beta(cfg)
        if cfg.method.alpha < 0:
            raise UserError(f"method.alpha={cfg.method.alpha} must be 0 (no likelihood term) or above.")

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """The likelihood is a mean over the tokens of a batch."""
        return bool(cfg.method.alpha == 0)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The margin of the summed log-probabilities, and the likelihood of the chosen tokens."""
        from torch.nn.functional import softplus

        chosen, rejected = pairs.chosen, pairs.rejected
        likelihood = chosen.log_prob.sum() / chosen.lengths.sum()
        contrast = softplus(cfg.method.beta * (rejected.log_prob - chosen.log_prob)).mean()
        loss: Tensor = contrast - cfg.method.alpha * likelihood
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Xu et al., 2024, section 3.

        The likelihood is averaged over the tokens of the chosen completions, as in the authors' code.
        """
        from torch.nn.functional import logsigmoid

        beta, tokens = cfg.method.beta, batch["chosen"].mask.bool()
        prefer = -logsigmoid(beta * batch["chosen"].policy.sum(-1) - beta * batch["rejected"].policy.sum(-1)).mean()
        loss: Tensor = prefer + cfg.method.alpha * -batch["chosen"].policy[tokens].mean()
        return loss

"""Alpha Preference Optimization.

Gupta et al., 2025, "AlphaPO: Reward Shape Matters for LLM Alignment", https://arxiv.org/abs/2501.03884. Loss: -log
sigmoid(reward of chosen - reward of rejected - gamma), with the reward beta (1 - p^-alpha) / alpha of a completion,
whose probability p is length-normalised, without a reference model. As alpha goes to 0 it becomes SimPO.

Data: pairs. The paper has alpha 0.25, beta 2.5, gamma 0.25 (0.1 times beta) and a learning rate of 7e-7 for Mistral
7B Instruct (table 3, whose column is gamma over beta).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class AlphaPO(PairLoss):
    """Alpha Preference Optimization (Gupta et al., 2025): SimPO with a reward of another shape."""

    name = "alphapo"
    options = frozenset({"alpha", "gamma"})

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse an alpha at which the reward is not defined."""
        check_beta(cfg)
        if cfg.method.alpha == 0:
            raise UserError("method.alpha=0 leaves SimPO: use method=simpo, or an alpha such as 0.25.")

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The margin between the shaped rewards, less the target."""
        from torch.nn.functional import softplus

        alpha, beta = cfg.method.alpha, cfg.method.beta
        chosen, rejected = ((-alpha * side.mean_log_prob).expm1() for side in (pairs.chosen, pairs.rejected))
        loss: Tensor = softplus(cfg.method.gamma - beta / alpha * (rejected - chosen))
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Gupta et al., 2025, the loss of AlphaPO."""
        from torch.nn.functional import logsigmoid

        alpha = cfg.method.alpha
        means = [(batch[name].policy.sum(-1) / batch[name].lengths).exp() for name in ("chosen", "rejected")]
        chosen, rejected = (cfg.method.beta * (1 - mean**-alpha) / alpha for mean in means)
        return -logsigmoid(chosen - rejected - cfg.method.gamma).mean()

"""Simple Preference Optimization.

Meng et al., 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward",
https://arxiv.org/abs/2405.14734, equation 6. Loss: -log sigmoid(beta x (mean log-probability of chosen - that of
rejected) - gamma), each mean over the completion's tokens, without a reference model.

Data: pairs. Beta: scale of the reward, far above DPO's; published values 2.0 to 10. Gamma: target margin between the
rewards; the authors tune gamma over beta, from 0 to 1, and start at 0.5. Learning rates: 3e-7 to 1e-6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class SimPO(PairLoss):
    """Simple Preference Optimization (Meng et al., 2024): a length-normalised reward with a target margin."""

    name = "simpo"
    options = frozenset({"gamma"})

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The margin of the mean log-probabilities, less the target."""
        from torch.nn.functional import softplus

        margin = pairs.chosen.mean_log_prob - pairs.rejected.mean_log_prob
        loss: Tensor = softplus(cfg.method.gamma - cfg.method.beta * margin)
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Meng et al., 2024, equation 6."""
        from torch.nn.functional import logsigmoid

        beta, gamma = cfg.method.beta, cfg.method.gamma
        chosen, rejected = (beta / batch[name].lengths * batch[name].policy.sum(-1) for name in ("chosen", "rejected"))
        return -logsigmoid(chosen - rejected - gamma).mean()

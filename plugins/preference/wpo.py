"""Weighted Preference Optimization.

Zhou et al., 2024, "WPO: Enhancing RLHF with Weighted Preference Optimization", https://arxiv.org/abs/2406.11827,
equation 2, with sampled alignment. Loss: DPO's, times the weights of both completions: exp of the mean over tokens of
log p(token) - log sum p^2 over the vocabulary, under the policy, not differentiated. A pair counts less the less likely
the policy is to write it, so that pairs of other models act like its own.

Data: pairs, of any model. Beta: 0.01 and learning rates of 5e-7 (Mistral 7B base) and 1e-6 (Llama 3 8B Instruct) in the
authors' code. TRL computes it, as `use_weighting`; the authors' code also cuts the product of a pair's weights off at
1, which neither TRL nor this equation does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class WPO(TRLLoss):
    """Weighted Preference Optimization (Zhou et al., 2024): pairs that the policy would not write count less."""

    name = "wpo"
    pinned = pin("sigmoid") | {"use_weighting": True}

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Zhou et al., 2024, equation 2, with sampled alignment."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = batch["chosen"], batch["rejected"]
        weights = [
            ((side.policy.detach() - side.log_sum_squares).sum(-1) / side.lengths).exp() for side in (chosen, rejected)
        ]
        margin = chosen.log_ratio.sum(-1) - rejected.log_ratio.sum(-1)
        loss: Tensor = -(weights[0] * weights[1] * logsigmoid(cfg.method.beta * margin)).mean()
        return loss

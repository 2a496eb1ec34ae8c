"""Mixed Preference Optimization.

Wang et al., 2024, "Enhancing the Reasoning Ability of Multimodal Large Language Models via Mixed Preference
Optimization", https://arxiv.org/abs/2411.10442. Loss: the weighted sum of DPO's (which of two is better), BCO's (how
good each is, against a reward shift) and the chosen completion's negative log-likelihood per token.

Data: pairs, of text only here. The weights are 0.8, 0.2 and 1 in the authors' code, whose learning rate is 5e-6 (8B)
and whose beta is TRL's default, 0.1. The shift is estimated on one batch of one process, where the authors' code keeps
a running mean: the loss depends on `train.per_device_batch_size`. TRL's losses `[sigmoid, bco_pair, sft]` leave the
shift out, and average the likelihood over all tokens of a batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

WEIGHTS = ("preference_weight", "quality_weight", "generation_weight")


class MPO(PairLoss):
    """Mixed Preference Optimization (Wang et al., 2024): which is better, how good each is, and how to write it."""

    name = "mpo"
    needs_reference = True
    options = frozenset(WEIGHTS)
    relatives = {"dpo": {"preference_weight": 1, "quality_weight": 0, "generation_weight": 0}}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse weights that turn a part around, and those that leave no part that compares."""
        check_beta(cfg)
        for name in WEIGHTS:
            if cfg.method[name] < 0:
                raise UserError(f"method.{name}={cfg.method[name]} must be 0 (this part is left out) or above.")
        if cfg.method.preference_weight == cfg.method.quality_weight == 0:
            raise UserError("method.preference_weight and method.quality_weight are both 0: use method=sft.")

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """The reward shift is a mean over the batch."""
        return bool(cfg.method.quality_weight == 0)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """The three parts, each times its weight."""
        import torch
        from torch.nn.functional import softplus

        chosen, rejected = (cfg.method.beta * side.log_ratio for side in (pairs.chosen, pairs.rejected))
        shift = torch.cat([chosen, rejected]).mean().detach()
        preference, quality = softplus(rejected - chosen), softplus(shift - chosen) + softplus(rejected - shift)
        contrast = cfg.method.preference_weight * preference + cfg.method.quality_weight * quality
        loss: Tensor = contrast - cfg.method.generation_weight * pairs.chosen.mean_log_prob
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Wang et al., 2024, the three parts of mixed preference optimization."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (cfg.method.beta * batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))
        delta = (chosen.mean() + rejected.mean()).detach() / 2
        parts = {
            "preference_weight": -logsigmoid(chosen - rejected),
            "quality_weight": -logsigmoid(chosen - delta) - logsigmoid(delta - rejected),
            "generation_weight": -batch["chosen"].policy.sum(-1) / batch["chosen"].lengths,
        }
        loss: Tensor = sum(cfg.method[name] * part.mean() for name, part in parts.items())
        return loss

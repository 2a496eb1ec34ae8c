"""Kahneman-Tversky Optimization.

Ethayarajh et al., 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", https://arxiv.org/abs/2402.01306,
equations 7 and 8. Loss: weight x (1 - sigmoid(beta x (log-ratio - KL))) for a good completion, with the sign reversed
for a bad one; KL is estimated on completions of other prompts in the batch and not differentiated.

Data: single completions, each good or bad; pairs are taken apart into one of each. Every batch holds both
labels. Beta: inverse temperature of the value function, published 0.01 to 0.3 (paper: 0.1). Learning rates: 5e-7 in
the paper, at most 5e-6 with full training. Batches below 8 make the KL estimate noisy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method, UserError, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class KTO(Method):
    """Kahneman-Tversky Optimization (Ethayarajh et al., 2024): learns from single completions marked good or bad."""

    name = "kto"
    data = DataFormat.UNPAIRED
    needs_reference = True
    config = "trl:KTOConfig"
    trainer = "trl:KTOTrainer"
    whole_logits = False
    scores_again = True
    pinned = {"loss_type": "kto", "train_sampling_strategy": "sequential"}
    headline = {"rewards/margins": "margin", "kl": "KL"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse what leaves the KL estimate or the value function without meaning."""
        check_beta(cfg)
        if cfg.train.per_device_batch_size < 2:
            raise UserError(
                "train.per_device_batch_size must be at least 2 for kto: "
                "its KL term pairs each prompt with another's completion."
            )

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """1 - sigmoid(0), where good and bad weigh the same."""
        return 0.5 if cfg.method.desirable_weight == cfg.method.undesirable_weight == 1 else None

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Ethayarajh et al., 2024, equations 7 and 8."""
        import torch

        kl = batch["KL_completion"].log_ratio.sum(-1).mean().clamp(min=0).detach()
        gains = cfg.method.beta * (batch["completion"].log_ratio.sum(-1) - kl)
        good = cfg.method.desirable_weight * (1 - torch.sigmoid(gains))
        bad = cfg.method.undesirable_weight * (1 - torch.sigmoid(-gains))
        return torch.where(batch.labels, good, bad).mean()

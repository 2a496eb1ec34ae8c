"""Anchored Preference Optimization, zero, on single completions.

D'Oosterlinck et al., 2024, "Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification
in Alignment", https://arxiv.org/abs/2408.06266, equation 7, whose two terms need no pairs, plus a constant. Loss of a
good completion: 1 - sigmoid(beta x log-ratio); of a bad one: sigmoid(beta x log-ratio).

Data: single completions, each good or bad, the good ones better than the start model's own; pairs are taken apart into
one of each. KTO without its KL term, which costs no second forward pass. Beta: 0.1, and learning rates: 2e-7 (published
version, section 5.2, on pairs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method, check_beta

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class APOZeroUnpaired(Method):
    """Anchored Preference Optimization, zero, unpaired (D'Oosterlinck et al., 2024): KTO's data without a KL term."""

    name = "apo_zero_unpaired"
    data = DataFormat.UNPAIRED
    needs_reference = True
    config = "trl:KTOConfig"
    trainer = "trl:KTOTrainer"
    whole_logits = False
    pinned = {
        "loss_type": "apo_zero_unpaired",
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
        "train_sampling_strategy": "sequential",
    }
    headline = {"rewards/margins": "margin"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a beta that reverses the labels."""
        check_beta(cfg)

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """A mean over completions."""
        return True

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """Both terms are sigmoid(0)."""
        return 0.5

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """D'Oosterlinck et al., 2024, equation 7, for single completions, plus 1 for each good one."""
        likelier = (cfg.method.beta * batch["completion"].log_ratio.sum(-1)).sigmoid()
        good = batch.labels.to(likelier.dtype)
        loss: Tensor = (good * (1 - likelier) + (1 - good) * likelier).mean()
        return loss

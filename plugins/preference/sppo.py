"""Self-Play Preference Optimization, offline, with hard labels.

Wu et al., 2024, "Self-Play Preference Optimization for Language Model Alignment", https://arxiv.org/abs/2405.00675,
equation 4.7. Loss: (c - 1 / (2 beta))^2 + (r + 1 / (2 beta))^2, with the log-ratios c of chosen and r of rejected:
the paper's, where the chosen completion wins with certainty.

Data: pairs. The paper samples new completions in each of three rounds, and has a preference model estimate how likely
each wins; here the pairs are given, and a probability is 1 or 0. Beta is 1 / the paper's eta: 0.001. The log-ratios
aim at 1 / (2 beta) and -1 / (2 beta) nats, so that the loss is large from the start. Learning rates: 5e-7 (authors'
code, whose loss is half of this one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .trl_loss import TRLLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class SPPO(TRLLoss):
    """Self-Play Preference Optimization (Wu et al., 2024), offline with hard labels: each log-ratio has a target."""

    name = "sppo"
    pinned = pin("sppo_hard")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """Two log-ratios of 0."""
        return 2 * float(1 / (2 * cfg.method.beta)) ** 2

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Wu et al., 2024, equation 4.7, for probabilities of 1 and 0."""
        eta = 1 / cfg.method.beta
        sides = zip(("chosen", "rejected"), (1.0, 0.0), strict=True)
        losses = [(batch[name].log_ratio.sum(-1) - eta * (wins - 0.5)).square() for name, wins in sides]
        loss: Tensor = (losses[0] + losses[1]).mean()
        return loss

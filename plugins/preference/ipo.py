"""Identity Preference Optimization.

Azar et al., 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences",
https://arxiv.org/abs/2310.12036, equation 17. Loss: (difference of log-ratios - 1 / (2 beta))^2, with log-ratios
averaged over the completion's tokens, as the authors confirmed for TRL.

Data: pairs. Beta is the paper's tau: the margin aims at 1 / (2 beta) nats per token and then stops, so that the loss
does not run away on certain preferences. Published values 0.01 to 1.0 (Hugging Face, "Preference Tuning LLMs with
Direct Preference Optimization Methods", 2024: best at 0.01 and 0.4 on two 7B models); they are not DPO's. Learning
rates: as DPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method, UserError

from .trl_options import add_losses, check_options

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class IPO(Method):
    """Identity Preference Optimization (Azar et al., 2023): a squared loss that does not saturate."""

    name = "ipo"
    data = DataFormat.PREFERENCE
    needs_reference = True
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"
    whole_logits = False
    pinned = {"loss_type": ["ipo"]}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a beta without a finite, positive target margin."""
        if cfg.method.beta <= 0:
            raise UserError(f"method.beta={cfg.method.beta} must be above 0: IPO aims at a margin of 1 / (2 beta).")
        check_options(cfg, ["ipo"])

    @classmethod
    def mean_of_rows(cls, cfg: DictConfig) -> bool:
        """A mean over pairs."""
        return True

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """(1 / (2 beta))^2."""
        weighted = cfg.method.get("use_weighting") or cfg.method.get("loss_weights") is not None
        return None if weighted else float(1 / (2 * cfg.method.beta)) ** 2

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Azar et al., 2023, equation 17, on mean log-probabilities.

        Log-ratios are averaged over the completion's tokens, which the paper leaves open.
        """
        return add_losses(cfg, batch, ["ipo"], {"ipo": square_margins})


def square_margins(cfg: DictConfig, batch: Batch) -> Tensor:
    """Return the loss of a batch: the squared distance of each pair's margin per token to its target, a scalar."""
    chosen, rejected = (batch[name].log_ratio.sum(-1) / batch[name].lengths for name in ("chosen", "rejected"))
    loss: Tensor = (chosen - rejected - 1 / (2 * cfg.method.beta)).square().mean()
    return loss

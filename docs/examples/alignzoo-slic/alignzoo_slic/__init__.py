"""SLiC-HF: Sequence Likelihood Calibration with Human Feedback.

Zhao et al., 2023, "SLiC-HF: Sequence Likelihood Calibration with Human Feedback", https://arxiv.org/abs/2305.10425.
Loss: max(0, delta - log p(chosen) + log p(rejected)) - weight x log p(chosen).
"""

from alignzoo import PairLoss, UserError, hookimpl


class SLiC(PairLoss):
    """Sequence Likelihood Calibration (Zhao et al., 2023): a hinge loss on pairs, without a reference model."""

    name = "slic"
    options = frozenset({"delta", "weight"})

    @classmethod
    def check(cls, cfg):
        """Refuse a margin that asks for nothing."""
        if cfg.method.delta <= 0:
            raise UserError(f"method.delta={cfg.method.delta} must be above 0: it is the margin that a pair aims at.")

    @classmethod
    def loss(cls, cfg, pairs):
        """The hinge on the margin, and the likelihood of the chosen completion."""
        hinge = (cfg.method.delta - pairs.chosen.log_prob + pairs.rejected.log_prob).clamp(min=0)
        return hinge - cfg.method.weight * pairs.chosen.log_prob

    @classmethod
    def equation(cls, cfg, batch):
        """Zhao et al., 2023, rank calibration loss, with the likelihood of the chosen completion as regulariser."""
        import torch

        good, bad = (batch[name].policy.sum(-1) for name in ("chosen", "rejected"))
        calibration = torch.maximum(torch.zeros_like(good), cfg.method.delta - (good - bad))
        return calibration.mean() - cfg.method.weight * good.mean()


@hookimpl
def alignzoo_methods():
    return [SLiC]


@hookimpl
def alignzoo_config_packages():
    return ["alignzoo_slic.conf"]

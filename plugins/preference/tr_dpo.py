"""Trust Region Direct Preference Optimization.

Gorbatovski et al., 2024, "Learn Your Reference Model for Real Good Alignment", https://arxiv.org/abs/2404.09656. Loss:
DPO's, against a reference that follows the policy: every tau steps it becomes alpha x policy + (1 - alpha) x reference.

Data: pairs. Beta: DPO's, as a place to start from. Alpha and tau: `ref_model_mixup_alpha` and `ref_model_sync_steps`,
0.6 and 512 in TRL, which names them after the paper. Alpha 1 copies the policy (the paper's hard update). Learning
rates: DPO's, as a place to start from. The reference is computed at each step, and kept in checkpoints. With an adapter
its matrices are mixed, not their product: the same at alpha 1 only.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from alignzoo import Batch, PairLoss, Pairs, TrainParts, UserError, check_beta

from .moving_reference import MovingReference, make_mover

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor
    from transformers import Trainer


class TRDPO(PairLoss):
    """Trust Region DPO (Gorbatovski et al., 2024): DPO whose reference follows the policy."""

    name = "tr_dpo"
    needs_reference = True
    pinned = {**PairLoss.pinned, "sync_ref_model": True, "precompute_ref_log_probs": False}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a reference that does not move, or beyond the policy."""
        check_beta(cfg)
        share, steps = cfg.method.ref_model_mixup_alpha, cfg.method.ref_model_sync_steps
        if not 0 < share <= 1:
            raise UserError(f"method.ref_model_mixup_alpha={share} must be above 0 (plain DPO) and at most 1.")
        if steps < 1:
            raise UserError(f"method.ref_model_sync_steps={steps} must be at least 1: the steps between two moves.")

    @classmethod
    def first_loss(cls, cfg: DictConfig) -> float | None:
        """-log sigmoid(0)."""
        return math.log(2)

    @classmethod
    def loss(cls, cfg: DictConfig, pairs: Pairs) -> Tensor:
        """DPO's margin; the reference is that of this step."""
        from torch.nn.functional import softplus

        loss: Tensor = softplus(cfg.method.beta * (pairs.rejected.log_ratio - pairs.chosen.log_ratio))
        return loss

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Gorbatovski et al., 2024, DPO's loss; at the first step the reference is the start model."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (cfg.method.beta * batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))
        return -logsigmoid(chosen - rejected).mean()

    def build_trainer(self, parts: TrainParts) -> Trainer:
        """Let the reference move; TRL refuses to move one beside an adapter, so that it is not asked to."""
        parts.args.sync_ref_model = parts.peft_config is None
        name, facts = parts.trainer.__name__, {"__module__": parts.trainer.__module__}
        trainer = super().build_trainer(
            dataclasses.replace(parts, trainer=type(name, (MovingReference, parts.trainer), facts))
        )
        if parts.peft_config is not None:
            trainer.add_callback(make_mover(trainer))
        return trainer

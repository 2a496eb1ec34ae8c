"""Length-Unbiased Sequence Policy Optimization: GSPO, in which a completion weighs as many times as it has tokens.

Liu et al., 2026, "Length-Unbiased Sequence Policy Optimization: Revealing and Controlling Response Length Variation in
RLVR", https://arxiv.org/abs/2602.05261. GSPO's ratio is a mean over a completion's tokens, so that each token of a long
one counts less, and completions become shorter. Each completion's loss is multiplied by its length.

Data: prompts, and rewards (`reward=...`). Clip range: GSPO's. Beta: 0. Learning rate: GRPO's, as a place to start from;
the loss is as many times larger as a completion has tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import clip_gain, compute_sequence_ratio, penalise, standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class LUSPO(GroupLoss):
    """Length-Unbiased Sequence Policy Optimization (Liu et al., 2026): GSPO, each completion times its length."""

    name = "luspo"
    pinned = pin(loss_type="luspo", importance_sampling_level="sequence")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Liu et al., 2026, LUSPO's objective."""
        advantages = standardise_groups(batch.rewards, batch.groups)[:, None]
        completions, ratio = batch["completion"], compute_sequence_ratio(batch)
        gains = completions.lengths * clip_gain(cfg, ratio, advantages)[:, 0]
        penalties = (penalise(cfg, batch, ratio) * completions.mask).sum(-1)
        loss: Tensor = (penalties - gains).mean()
        return loss

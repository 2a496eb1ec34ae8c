"""GDPO: several rewards, each compared within its group before they are added up.

Liu et al., 2026, "GDPO: Group reward-Decoupled Normalization Policy Optimization for Multi-reward RL Optimization",
https://arxiv.org/abs/2601.05242. GRPO adds rewards up first: completions with unlike rewards of one sum get one
advantage, and a reward with a wide range drowns the others. Here each reward is standardised within its group, their
weighted sum is standardised over the batch, and GRPO's loss follows.

Data: prompts, and several rewards (`reward=[a,b]`), whose `weight` counts after they were standardised. With one reward
it is GRPO, but for the batch's standard deviation. Beta, learning rate: GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import average_completions, clip_gain, compute_ratio, penalise, standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class GDPO(GroupLoss):
    """GDPO (Liu et al., 2026): GRPO in which each of several rewards is standardised by itself."""

    name = "gdpo"
    options = frozenset()  # no group of its batch can be replaced
    pinned = pin(multi_objective_aggregation="normalize_then_sum")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Liu et al., 2026, the decoupled advantage, in GRPO's objective; 1e-4 is what TRL adds to the spread."""
        summed = standardise_groups(batch.scores, batch.groups) @ batch.weights
        advantages = ((summed - summed.mean()) / (summed.std() + 1e-4))[:, None]
        ratio = compute_ratio(batch)
        return average_completions(batch, penalise(cfg, batch, ratio) - clip_gain(cfg, ratio, advantages))

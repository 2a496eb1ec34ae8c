"""Group Sequence Policy Optimization: GRPO with one ratio for a whole completion.

Zheng et al., 2025, "Group Sequence Policy Optimization", https://arxiv.org/abs/2507.18071. The ratio of a completion is
that of its probabilities now and when it was sampled, to the power of one over its length: the geometric mean of its
tokens' ratios. It is clipped as a whole, within a range that is a thousandth of GRPO's.

Data: prompts, and rewards (`reward=...`). Clip range 3e-4 and 4e-4 (paper, section 5.1), which acts where a batch of
completions serves several steps: four there (`+method.steps_per_generation`). Beta: 0. Learning rate: GRPO's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import average_completions, clip_gain, compute_sequence_ratio, penalise, standardise_groups
from .group_loss import GroupLoss, pin

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class GSPO(GroupLoss):
    """Group Sequence Policy Optimization (Zheng et al., 2025): ratio and clip of whole completions."""

    name = "gspo"
    pinned = pin(importance_sampling_level="sequence")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Zheng et al., 2025, GSPO's objective and the sequence's importance ratio."""
        advantages = standardise_groups(batch.rewards, batch.groups)[:, None]
        ratio = compute_sequence_ratio(batch)
        gains: Tensor = clip_gain(cfg, ratio, advantages).mean()
        return average_completions(batch, penalise(cfg, batch, ratio)) - gains

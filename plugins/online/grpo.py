"""Group Relative Policy Optimization.

Shao et al., 2024, "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
https://arxiv.org/abs/2402.03300, equation 3. For each prompt a group of completions is sampled and rewarded; each
completion's advantage is its reward less the group's mean, over the group's standard deviation; PPO's clipped objective
follows, with a KL penalty towards the start model.

Data: prompts, and rewards (`reward=...`). Beta: weight of the KL penalty, 0.04 in the paper, often 0 since (Dr. GRPO,
DAPO). Learning rates: 1e-6 (paper, 7B); 5e-7 to 5e-6. Its loss starts near zero and says little: watch the reward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, UserError

from . import options
from .group_loss import GroupLoss

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class GRPO(GroupLoss):
    """Group Relative Policy Optimization (Shao et al., 2024): rewards compared within a group of completions."""

    name = "grpo"

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse what no loss of GRPO's can do, and CISPO's without its bound, where TRL takes that of GRPO's clip."""
        super().check(cfg)
        if cfg.method.loss_type == "cispo" and (cfg.method.get("epsilon_high") or 0) <= 1:
            raise UserError(
                "method.loss_type=cispo: method.epsilon_high bounds the weight itself, and must be above 1, e.g. 5."
            )

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Shao et al., 2024, equations 3 and 4, advantages of section 4.1.2.

        Under TRL's options for it, by the papers that they come from (``options.py``). Since the paper, TRL's
        defaults: the KL term is weighed by the ratio too (DeepSeek-V3.2, section 3.1), and ``dapo`` averages over all
        tokens (Yu et al., 2025, section 3.3), ``grpo`` over each completion's first.
        """
        return options.compute_loss(cfg, batch) if options.is_covered(cfg) else None

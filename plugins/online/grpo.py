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

from alignzoo import Batch, DataFormat, Method, UserError, check_groups

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class GRPO(Method):
    """Group Relative Policy Optimization (Shao et al., 2024): rewards compared within a group of completions."""

    name = "grpo"
    data = DataFormat.PROMPTS
    config = "trl:GRPOConfig"
    trainer = "trl:GRPOTrainer"
    whole_logits = False
    uses_rewards = True
    headline = {"reward": "reward", "reward_std": "spread", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse groups that cannot be compared or do not fill a batch."""
        check_groups(cfg)
        if cfg.method.beta < 0:
            raise UserError(f"method.beta={cfg.method.beta} must be 0 (no KL penalty) or above.")

    @classmethod
    def holds_reference(cls, cfg: DictConfig) -> bool:
        """Only the KL penalty needs one."""
        return bool(cfg.method.beta > 0)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Shao et al., 2024, equations 3 and 4, advantages of section 4.1.2.

        Since the paper, TRL's defaults: the KL term is weighed by the ratio too (DeepSeek-V3.2, section 3.1), and
        ``dapo`` and ``bnpo`` average over all tokens (Yu et al., 2025, section 3.3), ``grpo`` over each
        completion's first.
        """
        import torch

        method, completions = cfg.method, batch["completion"]
        if method.loss_type not in ("grpo", "bnpo", "dapo"):
            return None
        groups = [batch.rewards[batch.groups == group] for group in batch.groups]
        mean, spread = (torch.stack([f(group) for group in groups]) for f in (torch.mean, torch.std))
        advantages = ((batch.rewards - mean) / spread)[:, None]
        ratio, clip = (completions.policy - completions.old).exp(), method.get("epsilon", 0.2)
        gain = torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        kl = (-completions.log_ratio).exp() + completions.log_ratio - 1
        kl = kl * ratio if method.get("use_bias_correction_kl", True) else kl
        losses: Tensor = (method.beta * kl - gain) * completions.mask
        if method.loss_type == "grpo":
            return (losses.sum(-1) / completions.lengths).mean()
        return losses.sum() / completions.mask.sum()

"""REINFORCE Leave-One-Out.

Ahmadian et al., 2024, "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in
LLMs", https://arxiv.org/abs/2402.14740, section 2.3. For each prompt several completions are sampled and rewarded; each
completion's advantage is its reward less the mean of the others'. The KL penalty towards the start model stands in the
reward, summed over the completion, which counts as one action. TRL adds PPO's clip, which acts where a batch of
completions serves several steps.

Data: prompts, and rewards (`reward=...`). Beta: 0.03 in the paper (appendix C). Completions per prompt: 2 and 4 there.
Learning rate: 1e-6 (appendix C, 7B). Its loss says little: watch the reward and the KL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, DataFormat, Method, UserError, check_groups

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class RLOO(Method):
    """REINFORCE Leave-One-Out (Ahmadian et al., 2024): a completion's reward less the mean of its group's others."""

    name = "rloo"
    data = DataFormat.PROMPTS
    config = "trl:RLOOConfig"
    trainer = "trl:RLOOTrainer"
    whole_logits = False
    uses_rewards = True
    headline = {"reward": "reward", "reward_std": "spread", "kl": "KL", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse a completion that has no others to be compared with, and groups that do not fill a batch."""
        check_groups(cfg)
        if cfg.method.beta < 0:
            raise UserError(f"method.beta={cfg.method.beta} must be 0 (no KL penalty) or above.")

    @classmethod
    def holds_reference(cls, cfg: DictConfig) -> bool:
        """Only the KL penalty needs one."""
        return bool(cfg.method.beta > 0)

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Ahmadian et al., 2024, section 2.3.

        The KL penalty stands in the reward, as in section 2; since the paper, TRL clips the whole completion's ratio
        as PPO does each token's.
        """
        import torch

        completions, clip = batch["completion"], cfg.method.get("epsilon", 0.2)
        if cfg.method.get("normalize_advantages"):
            return None
        returns = batch.rewards - cfg.method.beta * (completions.old - completions.reference).sum(-1)
        groups = batch.groups[:, None] == batch.groups[None, :]
        others = groups.float() - torch.eye(len(returns))
        advantages = returns - others @ returns / others.sum(-1)
        ratio = (completions.policy - completions.old).sum(-1).exp()
        gains: Tensor = torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        return -gains.mean()

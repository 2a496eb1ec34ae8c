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

from typing import TYPE_CHECKING, Any

from alignzoo import Batch, TrainParts, UserError

from .formulas import clip_gain
from .group_loss import GroupLoss

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class RLOO(GroupLoss):
    """REINFORCE Leave-One-Out (Ahmadian et al., 2024): a completion's reward less the mean of its group's others."""

    name = "rloo"
    options = frozenset()  # its trainer is another
    config = "trl:RLOOConfig"
    trainer = "trl:RLOOTrainer"
    tools_trainer = "alignzoo_plugins.online.trainers.rloo_tools:RLOOToolsTrainer"
    headline = {"reward": "reward", "reward_std": "spread", "kl": "KL", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse tools with vLLM: TRL's RLOOTrainer calls none, and alignzoo's samples without vLLM only."""
        super().check(cfg)
        if cfg.method.get("use_vllm") and (cfg.tools or cfg.environment.name != "none"):
            raise UserError(
                "method.use_vllm=true: rloo calls tools without vLLM only. Leave it out, or use method=grpo."
            )

    def trainer_arguments(self, parts: TrainParts) -> dict[str, Any]:
        """Add how many turns may call tools, which TRL's config has no field for."""
        more = {"turns": parts.cfg.environment.turns} if parts.tools or parts.environment else {}
        return {**super().trainer_arguments(parts), **more}

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Ahmadian et al., 2024, section 2.3.

        The KL penalty stands in the reward, as in section 2; since the paper, TRL clips the whole completion's ratio
        as PPO does each token's. Not covered: vLLM's sampling, and a reference that moves.
        """
        import torch

        method, completions = cfg.method, batch["completion"]
        if method.get("use_vllm") or method.get("sync_ref_model"):
            return None
        rewards, mask, bounds = batch.rewards, completions.mask, method.get("reward_clip_range")
        if method.get("mask_truncated_completions"):
            mask = mask * ~batch.truncated[:, None]
        if bounds:
            rewards = rewards.clamp(*bounds)
        returns = rewards - method.beta * ((completions.old - completions.reference) * mask).sum(-1)
        groups = batch.groups[:, None] == batch.groups[None, :]
        others = groups.float() - torch.eye(len(returns))
        advantages = returns - others @ returns / others.sum(-1)
        if method.get("normalize_advantages"):
            advantages = (advantages - advantages.mean()) / advantages.std()
        ratio = ((completions.policy - completions.old) * mask).sum(-1).exp()
        return -clip_gain(cfg, ratio, advantages).mean()

"""ReMax: the policy gradient with the greedy completion's reward as its baseline.

Li et al., 2023, "ReMax: A Simple, Effective, and Efficient Reinforcement Learning Method for Aligning Large Language
Models", https://arxiv.org/abs/2310.10505, algorithm 1. For each prompt one completion is sampled and one decoded
greedily; the sampled one's log-probability is weighed by how much more it earns. There is no ratio and no clip: each
batch serves one step.

Data: prompts, and rewards (`reward=...`). Beta: weight of log(policy / start model), summed over the completion, in the
reward. Learning rate: 1e-6 as GRPO's, as a place to start from: advantages are not divided by their spread, so that it
has to fit the scale of the rewards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch, UserError

from .group_loss import pin
from .ungrouped import Ungrouped

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class ReMax(Ungrouped):
    """ReMax (Li et al., 2023): the policy gradient, less what the greedy completion earns."""

    name = "remax"
    trainer = "alignzoo_plugins.online.trainers.remax:ReMaxTrainer"
    pinned = pin()
    headline = {"reward": "reward", "baseline": "greedy", "kl": "KL", "completions/mean_length": "tokens"}

    @classmethod
    def check(cls, cfg: DictConfig) -> None:
        """Refuse vLLM, which would sample the greedy completion too."""
        super().check(cfg)
        if cfg.method.get("use_vllm"):
            raise UserError("method.use_vllm=true: remax decodes greedily too, which it does without vLLM only.")

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Li et al., 2023, algorithm 1, with the KL penalty in the sampled completion's reward."""
        completions = batch["completion"]
        returns = batch.rewards - cfg.method.beta * (completions.old - completions.reference).sum(-1)
        loss: Tensor = -(completions.policy.sum(-1) * (returns - batch.greedy_rewards)).mean()
        return loss

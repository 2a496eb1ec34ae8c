"""REINFORCE++: no value model and no groups, but advantages that are standardised over the whole batch.

Hu et al., 2025, "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Normalization",
https://arxiv.org/abs/2501.03262. A token's advantage is the completion's reward, less the KL penalty of the tokens from
there on; all are standardised over the tokens of the batch, and PPO's clipped objective follows. (The paper's second
algorithm, with the group's mean as a baseline, is another. RLOO's `normalize_advantages` in TRL is neither: it
standardises leave-one-out advantages of whole completions.)

Data: prompts, and rewards (`reward=...`). One completion a prompt in the paper, and large batches: advantages are only
as good as the batch's mean. Beta: 0.001 to 0.01. Learning rate: GRPO's, as a place to start from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo import Batch

from .formulas import average_tokens, clip_gain, compute_ratio
from .group_loss import pin
from .ungrouped import Ungrouped

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


class ReinforcePP(Ungrouped):
    """REINFORCE++ (Hu et al., 2025): a token's reward to come, standardised over the batch, without groups."""

    name = "reinforce_pp"
    trainer = "alignzoo_plugins.online.trainers.reinforce_pp:ReinforcePPTrainer"
    pinned = pin(loss_type="dapo")
    headline = {"reward": "reward", "reward_std": "spread", "kl": "KL", "completions/mean_length": "tokens"}

    @classmethod
    def equation(cls, cfg: DictConfig, batch: Batch) -> Tensor | None:
        """Hu et al., 2025, the advantage with its KL terms, its normalization over the batch, PPO's clip."""
        import torch

        completions = batch["completion"]
        penalties = cfg.method.beta * (completions.old - completions.reference)
        later = torch.ones(penalties.shape[1], penalties.shape[1]).tril()  # [i, t]: token i comes at t or behind it
        returns = batch.rewards[:, None] - penalties @ later
        tokens = returns[completions.mask.bool()]
        advantages = (returns - tokens.mean()) / tokens.std()
        return average_tokens(batch, -clip_gain(cfg, compute_ratio(batch), advantages))

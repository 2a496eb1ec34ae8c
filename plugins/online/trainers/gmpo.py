"""GMPO's loss on TRL's GRPOTrainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .scored import Batch, ScoredTrainer


class GMPOTrainer(ScoredTrainer):
    """GRPO's completions and advantages, with the geometric mean of a completion's clipped ratios."""

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        """Return the loss of Zhao et al., 2025: clipped token by token, where a change goes the advantage's way."""
        policy, entropy = self.score_tokens(model, inputs, entropy=True)
        mask, advantages = inputs["completion_mask"], inputs["advantages"]
        change = policy - inputs.get("old_per_token_logps", policy.detach())
        gains = advantages[:, None] >= 0
        clipped = torch.where(gains, change.clamp(max=self.epsilon_high), change.clamp(min=-self.epsilon_low))
        count = mask.sum(dim=1).clamp(min=1)
        ratio = ((clipped * mask).sum(dim=1) / count).exp()
        tokens = mask.sum().clamp(min=1)
        self.note(
            clip_ratio__region_mean=((clipped != change) * mask).sum() / tokens,
            entropy=torch.zeros(()) if entropy is None else (entropy * mask).sum() / tokens,
        )
        loss: Tensor = -(ratio * advantages).mean()
        return loss / self.parts

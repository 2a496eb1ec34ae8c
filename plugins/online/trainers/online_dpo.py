"""Online DPO on TRL's GRPOTrainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .scored import Batch, ScoredTrainer

COMPLETIONS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "ref_per_token_logps")


class OnlineDPOTrainer(ScoredTrainer):
    """DPO's loss on pairs of completions that were sampled for one prompt, the better one by the rewards."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """Return pairs, (pairs, 2, tokens), chosen first: TRL shuffles and divides a batch by its first dimension."""
        batch: Batch = super()._generate_and_score_completions(inputs)
        rewards = self.read_rewards(len(inputs)).view(-1, 2)
        order = torch.stack([rewards.argmax(dim=1), 1 - rewards.argmax(dim=1)], dim=1)
        self.note(scores_margin=(rewards[:, 0] - rewards[:, 1]).abs().mean())
        rows = torch.arange(len(order), device=order.device)[:, None]
        return {name: batch[name].view(len(order), 2, -1)[rows, order] for name in COMPLETIONS}

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        """Return DPO's loss of the pairs."""
        flat = {name: inputs[name].flatten(0, 1) for name in COMPLETIONS}
        policy, entropy = self.score_tokens(model, flat, entropy=True)
        mask = flat["completion_mask"]
        ratios = ((policy - flat["ref_per_token_logps"]) * mask).sum(dim=1)
        rewards = self.beta * ratios.detach().view(-1, 2)
        tokens = mask.sum().clamp(min=1)
        self.note(
            rewards__chosen=rewards[:, 0].mean(),
            rewards__rejected=rewards[:, 1].mean(),
            rewards__accuracies=(rewards[:, 0] > rewards[:, 1]).float().mean(),
            kl=ratios.sum() / tokens,
            entropy=torch.zeros(()) if entropy is None else (entropy * mask).sum() / tokens,
        )
        margin = ratios.view(-1, 2)[:, 0] - ratios.view(-1, 2)[:, 1]
        return -logsigmoid(self.beta * margin).mean() / self.parts

"""REINFORCE++'s advantages on TRL's GRPOTrainer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .scored import Batch, ScoredTrainer


class ReinforcePPTrainer(ScoredTrainer):
    """An advantage for each token: the reward less the KL penalty still to come, standardised over all tokens."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """Replace TRL's advantages of whole completions, (rows,), by those of tokens, (rows, tokens)."""
        batch: Batch = super()._generate_and_score_completions(inputs)
        to_come = self.estimate_kl(batch).flip(1).cumsum(dim=1).flip(1)
        advantages = self.read_rewards(len(inputs))[:, None] - self.beta * to_come
        return {**batch, "advantages": self._standardise(advantages, batch["completion_mask"])}

    def _standardise(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return values less their mean, over their standard deviation, of the tokens of all processes."""
        count = self.accelerator.reduce(mask.sum(), reduction="sum").clamp(min=2)
        mean = self.accelerator.reduce((values * mask).sum(), reduction="sum") / count
        apart = (values - mean) * mask
        spread = (self.accelerator.reduce(apart.square().sum(), reduction="sum") / (count - 1)).sqrt()
        standardised: Tensor = apart / spread.clamp(min=1e-8)
        return standardised

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        """Return TRL's clipped loss, without its KL term: the penalty stands in the reward."""
        beta, self.beta = self.beta, 0.0
        try:
            loss: Tensor = super()._compute_loss(model, inputs)
        finally:
            self.beta = beta
        return loss

"""Trains a method's own loss on the batches of TRL's DPOTrainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.plugin.pair_loss import PairLoss, Pairs, Scored
from alignzoo.train.own_loss import OwnLoss

if TYPE_CHECKING:
    from torch import Tensor


class OwnPairLoss(OwnLoss):
    """A mixin for TRL's DPOTrainer, whose loss is replaced by that of ``method``."""

    method: ClassVar[type[PairLoss]]

    def _compute_loss_of(self, model: Any, outputs: Any, inputs: Any) -> Tensor:
        """Return the loss of each pair; TRL's batch holds the chosen sequences first, then the rejected ones."""
        tokens, mask = self._read_tokens(outputs, inputs)
        sides = zip(tokens.chunk(2), mask.chunk(2), self._find_reference(tokens, inputs), strict=True)
        pairs = Pairs(*(Scored(*side) for side in sides))
        self._log_pairs(pairs)
        self._log_entropy(outputs, mask)
        return self.method.loss(self.cfg, pairs)

    def _find_reference(self, tokens: Tensor, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities under the start model, of chosen and rejected completions, (pairs,) each."""
        if not self.method.needs_reference:
            nothing = tokens.new_zeros(len(tokens) // 2)
            return nothing, nothing
        if "ref_chosen_logps" in inputs:
            return inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        found: tuple[Tensor, Tensor] = self.compute_ref_log_probs(self.ref_model or self.model, inputs)  # type: ignore[attr-defined]
        return found

    def _log_pairs(self, pairs: Pairs) -> None:
        """Log the numbers that TRL logs of DPO; without a reference, rewards are beta times means per token."""
        chosen, rejected = (self._reward(side) for side in (pairs.chosen, pairs.rejected))
        self._log("rewards/chosen", chosen)
        self._log("rewards/rejected", rejected)
        self._log("rewards/accuracies", (chosen > rejected).float())
        self._log("rewards/margins", chosen - rejected)
        self._log("logps/chosen", pairs.chosen.log_prob)
        self._log("logps/rejected", pairs.rejected.log_prob)

    def _reward(self, side: Scored) -> Tensor:
        read = side.log_ratio if self.method.needs_reference else side.mean_log_prob
        reward: Tensor = self.args.beta * read.detach()
        return reward

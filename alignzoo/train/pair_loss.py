"""Trains a method's own loss on the batches of TRL's DPOTrainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.plugin.pair_loss import PairLoss, Pairs, Scored
from alignzoo.train.own_loss import OwnLoss, make_inputs
from alignzoo.train.pair_batches import FurtherCollator, draw_for_batch
from alignzoo.train.reference.scoring import use_reference

if TYPE_CHECKING:
    from torch import Tensor


class OwnPairLoss(OwnLoss):
    """A mixin for TRL's DPOTrainer, whose loss is replaced by that of ``method``; batches and passes stay TRL's."""

    method: ClassVar[type[PairLoss]]
    state: Any
    data_collator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build TRL's trainer, whose reference pass has its own collator, then collate the further columns too."""
        super().__init__(*args, **kwargs)
        there = self.train_dataset.column_names  # type: ignore[attr-defined]
        self.further = [name for name in self.method.further_columns(self.cfg) if name in there]
        if self.further:
            self.data_collator = FurtherCollator(self.data_collator, self.further)

    def _make_inputs(self, inputs: Any) -> dict[str, Any]:
        """As for any loss; of the chosen sequences the prompts too, where the loss reads them."""
        return make_inputs(inputs, prompts=self.method.scores_prompts)

    def _compute_loss_of(self, model: Any, outputs: Any, inputs: Any) -> Tensor:
        """Return the loss of each pair."""
        pairs = self._make_pairs(outputs.log_probs, inputs)
        self._log_pairs(pairs, outputs, inputs)
        return self.method.loss(self.cfg, pairs)

    def _make_pairs(self, log_probs: Tensor, inputs: Any) -> Pairs:
        """Return the pairs; a batch holds the chosen sequences first, then the rejected ones, then gold ones."""
        import torch

        mask = inputs["completion_mask"][:, 1:].to(log_probs.dtype)
        log_probs = log_probs[:, -mask.shape[1] :]  # prompt learning puts virtual tokens in front
        tokens = log_probs * mask
        parts = 3 if "gold_ids" in self.further else 2
        sides = zip(tokens.chunk(parts), mask.chunk(parts), strict=True)
        chosen, rejected, *gold = (_score_alone(*side) for side in sides)
        if self.method.scores_prompts:
            prompts = inputs["attention_mask"][: len(chosen.mask), 1:] - chosen.mask
            scored = log_probs[: len(chosen.mask)] * prompts
            chosen = dataclasses.replace(chosen, prompt_log_probs=scored, prompt_mask=prompts)
        if self.method.draws_tokens:
            chosen, rejected = self._add_draws((chosen, rejected), inputs)
        elif self.method.needs_reference:
            sums = self._find_reference({name: rows[: 2 * len(chosen.mask)] for name, rows in inputs.items()})
            chosen, rejected = (
                dataclasses.replace(side, reference_log_prob=total)
                for side, total in zip((chosen, rejected), sums, strict=True)
            )
        third = gold[0] if gold else _score_alone(tokens[: len(chosen.mask), :0], chosen.mask[:, :0])
        return Pairs(chosen, rejected, third, inputs.get("margin", torch.zeros_like(chosen.log_prob)))

    def _find_reference(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities under the start model, of chosen and rejected completions, (pairs,) each."""
        if "ref_chosen_logps" in inputs:
            return inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        sequences = {name: rows for name, rows in inputs.items() if name != "margin"}
        found: tuple[Tensor, Tensor] = self.compute_ref_log_probs(self.ref_model or self.model, sequences)  # type: ignore[attr-defined]
        return found

    def _add_draws(self, sides: tuple[Scored, Scored], inputs: Any) -> Iterator[Scored]:
        """Yield chosen and rejected completions with numbers to draw tokens by, and the reference token by token."""
        import torch

        with torch.no_grad(), use_reference(self), self.accelerator.autocast():
            outputs = (self.ref_model or self.model)(**make_inputs(inputs))
        tokens = outputs.log_probs[:, -(inputs["input_ids"].shape[1] - 1) :]
        draws = draw_for_batch(inputs, self.cfg.seed, self.state.global_step)
        for side, found, numbers in zip(sides, tokens.chunk(2), draws.chunk(2), strict=True):
            kept = found * side.mask
            yield dataclasses.replace(
                side, reference_log_prob=kept.sum(-1), reference_token_log_probs=kept, draws=numbers
            )

    def _log_pairs(self, pairs: Pairs, outputs: Any, inputs: Any) -> None:
        """Log the numbers that TRL logs of DPO; without a reference, rewards are beta times means per token."""
        chosen, rejected = (self._reward(side) for side in (pairs.chosen, pairs.rejected))
        mask = inputs["completion_mask"][:, 1:]
        self._log("rewards/chosen", chosen)
        self._log("rewards/rejected", rejected)
        self._log("rewards/accuracies", (chosen > rejected).float())
        self._log("rewards/margins", chosen - rejected)
        self._log("logps/chosen", pairs.chosen.log_prob)
        self._log("logps/rejected", pairs.rejected.log_prob)
        self._log("entropy", (outputs.entropy[:, -mask.shape[1] :] * mask).sum(-1) / mask.sum(-1))

    def _reward(self, side: Scored) -> Tensor:
        read = side.log_ratio if self.method.needs_reference else side.mean_log_prob
        reward: Tensor = self.args.beta * read.detach()
        return reward


def _score_alone(tokens: Tensor, mask: Tensor) -> Scored:
    """Return completions of which only the policy's log-probabilities are known."""
    return Scored(tokens, mask, mask.new_zeros(len(mask)), *(mask.new_zeros(mask.shape) for _ in range(4)))

"""Trains a method's own loss on the batches of TRL's DPOTrainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.plugin.pair_loss import PairLoss, Pairs, Scored
from alignzoo.train.pair_batches import FurtherCollator, draw_for_batch
from alignzoo.train.reference.scoring import use_reference

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from torch import Tensor


class NoReference:
    """A mixin for TRL's DPOTrainer with a loss that reads no reference: none is loaded, computed or cached."""

    # patch: trl DPOTrainer._precompute_ref_logps
    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Leave the rows as they are."""
        return dataset


class OwnPairLoss:
    """A mixin for TRL's DPOTrainer, whose loss is replaced by that of ``method``; batches and passes stay TRL's."""

    method: ClassVar[type[PairLoss]]
    cfg: ClassVar[DictConfig]
    accelerator: Any
    args: Any
    model: Any
    ref_model: Any
    state: Any
    data_collator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build TRL's trainer, whose reference pass has its own collator, then collate the further columns too."""
        super().__init__(*args, **kwargs)
        there = self.train_dataset.column_names  # type: ignore[attr-defined]
        self.further = [name for name in self.method.further_columns(self.cfg) if name in there]
        if self.further:
            self.data_collator = FurtherCollator(self.data_collator, self.further)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **counts: Any) -> Any:
        """Return the mean of the method's loss over the pairs, and the head's outputs if they are asked for."""
        routed = {"output_router_logits": True} if self.aux_loss_enabled else {}  # type: ignore[attr-defined]
        outputs = model(**_make_inputs(inputs, prompts=self.method.scores_prompts), **routed)
        pairs = self._make_pairs(outputs.log_probs, inputs)
        self._log_pairs(pairs, outputs, inputs)
        loss = self.method.loss(self.cfg, pairs).mean()
        if self.aux_loss_enabled:  # type: ignore[attr-defined]
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss  # type: ignore[attr-defined]
        return (loss, outputs) if return_outputs else loss

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
            outputs = (self.ref_model or self.model)(**_make_inputs(inputs))
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

    def _log(self, name: str, values: Tensor) -> None:
        """Add the mean over the rows of all processes to what TRL logs next."""
        mode = "train" if self.model.training else "eval"
        found = self.accelerator.gather(values.detach()).mean().item()
        self._metrics[mode][name].append(found)  # type: ignore[attr-defined]


def _score_alone(tokens: Tensor, mask: Tensor) -> Scored:
    """Return completions of which only the policy's log-probabilities are known."""
    return Scored(tokens, mask, mask.new_zeros(len(mask)), *(mask.new_zeros(mask.shape) for _ in range(4)))


def _make_inputs(inputs: Any, prompts: bool = False) -> dict[str, Any]:
    """Return what TRL's fused head takes: it scores the completions' tokens, with ``prompts`` the chosen ones' too."""
    scored = inputs["completion_mask"].clone()
    if prompts:
        scored[: len(scored) // 2] = inputs["attention_mask"][: len(scored) // 2]
    labels = inputs["input_ids"].masked_fill(scored == 0, -100)
    columns = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    return {**columns, "labels": labels, "use_cache": False, "fused_lm_head": True}

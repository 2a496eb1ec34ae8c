"""Trains a method's own loss on the batches of TRL's DPOTrainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.plugin.pair_loss import PairLoss, Pairs, Scored

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

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **counts: Any) -> Any:
        """Return the mean of the method's loss over the pairs, and the head's outputs if they are asked for."""
        columns = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        routed = {"output_router_logits": True} if self.aux_loss_enabled else {}  # type: ignore[attr-defined]
        outputs = model(**columns, **routed, labels=labels, use_cache=False, fused_lm_head=True)
        pairs = self._make_pairs(outputs.log_probs, inputs)
        self._log_pairs(pairs, outputs, inputs)
        loss = self.method.loss(self.cfg, pairs).mean()
        if self.aux_loss_enabled:  # type: ignore[attr-defined]
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss  # type: ignore[attr-defined]
        return (loss, outputs) if return_outputs else loss

    def _make_pairs(self, log_probs: Tensor, inputs: Any) -> Pairs:
        """Return the pairs; TRL's batch holds the chosen sequences first, then the rejected ones."""
        mask = inputs["completion_mask"][:, 1:].to(log_probs.dtype)
        tokens = log_probs[:, -mask.shape[1] :] * mask  # prompt learning puts virtual tokens in front
        sides = zip(tokens.chunk(2), mask.chunk(2), self._find_reference(tokens, inputs), strict=True)
        return Pairs(*(Scored(*side) for side in sides))

    def _find_reference(self, tokens: Tensor, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities under the start model, of chosen and rejected completions, (pairs,) each."""
        if not self.method.needs_reference:
            nothing = tokens.new_zeros(len(tokens) // 2)
            return nothing, nothing
        if "ref_chosen_logps" in inputs:
            return inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        found: tuple[Tensor, Tensor] = self.compute_ref_log_probs(self.ref_model or self.model, inputs)  # type: ignore[attr-defined]
        return found

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

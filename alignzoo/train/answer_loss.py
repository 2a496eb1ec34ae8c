"""Trains a method's own loss on the batches of TRL's KTOTrainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from alignzoo.plugin.answer_loss import AnswerLoss, Marked
from alignzoo.train.own_loss import OwnLoss

if TYPE_CHECKING:
    from torch import Tensor


class OwnAnswerLoss(OwnLoss):
    """A mixin for TRL's KTOTrainer, whose loss is replaced by that of ``method``."""

    method: ClassVar[type[AnswerLoss]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from alignzoo.train.running_means import RunningMeans

        super().__init__(*args, **kwargs)
        self.means = RunningMeans()
        self.add_callback(self.means)  # type: ignore[attr-defined]

    def _compute_loss_of(self, model: Any, outputs: Any, inputs: Any) -> Tensor:
        """Return the loss of each completion."""
        tokens, mask = self._read_tokens(outputs, inputs)
        reference, pairs = self._find_reference(tokens, inputs)
        labels, kl = inputs["label"].bool().to(tokens.device), self._find_kl(model, pairs, inputs)
        rows = Marked(tokens, mask, reference, labels, kl, self._update_mean)
        self._log_rows(rows)
        self._log_entropy(outputs, mask)
        return self.method.loss(self.cfg, rows)

    def _find_reference(self, tokens: Tensor, inputs: Any) -> tuple[Tensor, Tensor | None]:
        """Return the log-probabilities under the start model, of the completions and of the KL pairs, (rows,) each."""
        if not self.method.needs_reference:
            return tokens.new_zeros(len(tokens)), None
        if "ref_logps" in inputs:
            return inputs["ref_logps"], inputs.get("ref_KL_logps")
        found: tuple[Tensor, Tensor | None]
        found = self.compute_ref_log_probs(self.ref_model or self.model, inputs)  # type: ignore[attr-defined]
        return found

    def _find_kl(self, model: Any, reference: Tensor | None, inputs: Any) -> Tensor:
        """Return the log-ratios of the KL pairs of all processes; TRL computes the policy's without gradient."""
        if reference is None:
            return inputs["input_ids"].new_empty(0, dtype=self.model.dtype)  # type: ignore[no-any-return]
        ratios: Tensor = self._compute_kl_logps(model, inputs) - reference  # type: ignore[attr-defined]
        gathered: Tensor = self.accelerator.gather(ratios.detach())
        self._log("kl", gathered.mean().clamp(min=0)[None])
        return gathered

    def _update_mean(self, name: str, values: Tensor) -> Tensor:
        """Return the mean of all values given under ``name`` so far, of all processes; held-out ones are not added."""
        sums = values.detach().double()
        both = self.accelerator.gather(sums.new_tensor([float(sums.sum()), float(sums.numel())])[None]).sum(0)
        total, count = both.tolist()
        return values.new_tensor(self.means.average(name, total, count, keep=self.model.training))

    def _log_rows(self, rows: Marked) -> None:
        """Log the numbers that TRL logs of KTO; without a reference, rewards are beta times means per token."""
        read = rows.log_ratio if self.method.needs_reference else rows.mean_log_prob
        rewards = self.args.beta * read.detach()
        for name, chosen in (("chosen", rows.labels), ("rejected", ~rows.labels)):
            self._log(f"rewards/{name}", rewards[chosen])
            self._log(f"logps/{name}", rows.log_prob[chosen])
        mode = self._metrics["train" if self.model.training else "eval"]  # type: ignore[attr-defined]
        if mode["rewards/chosen"] and mode["rewards/rejected"]:
            mode["rewards/margins"].append(mode["rewards/chosen"][-1] - mode["rewards/rejected"][-1])

"""Replaces the loss of a TRL trainer by that of a method; batches and passes stay TRL's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from torch import Tensor


class NoReference:
    """A mixin for TRL's DPO and KTO trainers whose loss reads no reference: none is loaded, computed or cached."""

    # patch: trl DPOTrainer._precompute_ref_logps
    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Leave the rows as they are."""
        return dataset


class OwnLoss:
    """A mixin for TRL's DPO and KTO trainers. Subclasses compute the loss of a batch, and log its numbers."""

    method: ClassVar[type[Any]]
    cfg: ClassVar[DictConfig]
    accelerator: Any
    args: Any
    model: Any
    ref_model: Any

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **counts: Any) -> Any:
        """Return the mean of the method's loss over the rows, and the head's outputs if they are asked for."""
        routed = {"output_router_logits": True} if self.aux_loss_enabled else {}  # type: ignore[attr-defined]
        outputs = model(**self._make_inputs(inputs), **routed)
        loss = self._compute_loss_of(model, outputs, inputs).mean()
        if self.aux_loss_enabled:  # type: ignore[attr-defined]
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss  # type: ignore[attr-defined]
        return (loss, outputs) if return_outputs else loss

    def _make_inputs(self, inputs: Any) -> dict[str, Any]:
        """Return what the model takes of a batch."""
        return make_inputs(inputs)

    def _compute_loss_of(self, model: Any, outputs: Any, inputs: Any) -> Tensor:
        """Return the loss of each row, or a scalar, and log the numbers of the batch."""
        raise NotImplementedError

    def _read_tokens(self, outputs: Any, inputs: Any) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of the completions' tokens, 0 elsewhere, and their mask, (rows, positions)."""
        mask = inputs["completion_mask"][:, 1:].to(outputs.log_probs.dtype)
        tokens: Tensor = outputs.log_probs[:, -mask.shape[1] :] * mask  # prompt learning puts virtual tokens in front
        return tokens, mask

    def _log_entropy(self, outputs: Any, mask: Tensor) -> None:
        """Log the mean entropy per token of the completions, in nats."""
        self._log("entropy", (outputs.entropy[:, -mask.shape[1] :] * mask).sum(-1) / mask.sum(-1))

    def _log(self, name: str, values: Tensor) -> None:
        """Add the mean over the rows of all processes to what TRL logs next; nothing where no process has a row."""
        import torch

        values = values.detach().float()
        sums = torch.stack([values.sum(), values.new_tensor(float(values.numel()))])
        total, count = self.accelerator.gather(sums[None]).sum(0).tolist()
        if count:
            mode = "train" if self.model.training else "eval"
            self._metrics[mode][name].append(total / count)  # type: ignore[attr-defined]


def make_inputs(inputs: Any, prompts: bool = False) -> dict[str, Any]:
    """Return what TRL's fused head takes: it scores the completions' tokens, with ``prompts`` the chosen ones' too."""
    scored = inputs["completion_mask"].clone()
    if prompts:
        scored[: len(scored) // 2] = inputs["attention_mask"][: len(scored) // 2]
    labels = inputs["input_ids"].masked_fill(scored == 0, -100)
    columns = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    return {**columns, "labels": labels, "use_cache": False, "fused_lm_head": True}

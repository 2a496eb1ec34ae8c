"""Lets the reference of a DPO trainer follow the policy, with an adapter too, and keeps it in checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

FILE = "reference.pth"  #: in a checkpoint, where alignzoo's own saving puts it too


class MovingReference:
    """A mixin for TRL's DPOTrainer.

    Where all weights train, the reference is TRL's second model, which TRL moves (``sync_ref_model``). With an adapter,
    which TRL does not move, it is the model with a copy of the adapter's weights, which is moved here.
    """

    args: Any
    model: Any
    ref_model: Any
    accelerator: Any
    is_world_process_zero: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build TRL's trainer, and copy the adapter that has just been made, if there is one."""
        super().__init__(*args, **kwargs)
        self.copied: dict[str, Tensor] = {}
        if self.ref_model is None:
            self.copied = {name: weight.detach().clone() for name, weight in self._list_trained().items()}

    def _list_trained(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def move_reference(self, share: float) -> None:
        """Move the copied adapter by ``share`` of its distance to the one that trains."""
        for name, weight in self._list_trained().items():
            self.copied[name] = self.copied[name].to(weight.device).lerp(weight.detach(), share)

    @contextlib.contextmanager
    def _use_copied(self) -> Iterator[None]:
        """Put the copied adapter in the place of the one that trains."""
        trained = self._list_trained()
        kept = {name: weight.data for name, weight in trained.items()}
        try:
            for name, weight in trained.items():
                weight.data = self.copied[name].to(weight.device)
            yield
        finally:
            for name, weight in trained.items():
                weight.data = kept[name]

    def compute_ref_log_probs(self, model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of chosen and rejected completions under the reference, (pairs,) each."""
        if self.ref_model is not None:
            found: tuple[Tensor, Tensor] = super().compute_ref_log_probs(model, inputs)  # type: ignore[misc]
            return found
        import torch

        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        columns = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad(), self._use_copied(), self.accelerator.autocast():
            tokens = model(**columns, labels=labels, use_cache=False, fused_lm_head=True).log_probs
        mask = inputs["completion_mask"][:, 1:]
        chosen, rejected = (tokens[:, -mask.shape[1] :] * mask).sum(-1).chunk(2)
        return chosen, rejected

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the policy, and in a checkpoint the reference beside it."""
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        if _internal_call and output_dir and self.is_world_process_zero():
            import torch

            torch.save(self.copied or self._read_model().state_dict(), Path(output_dir) / FILE)

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train; from a checkpoint, with the reference that is in it."""
        if isinstance(resume_from_checkpoint, str):
            import torch

            found = torch.load(Path(resume_from_checkpoint) / FILE, map_location="cpu", weights_only=True)
            if self.copied:
                self.copied = found
            else:
                self._read_model().load_state_dict(found)
        return super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]

    def _read_model(self) -> Any:
        return self.accelerator.unwrap_model(self.ref_model)


def make_mover(trainer: Any) -> Any:
    """Return the callback that moves a copied adapter every ``ref_model_sync_steps`` steps, as TRL moves a model."""
    from transformers import TrainerCallback

    class Mover(TrainerCallback):
        """Moves the reference at the end of a step."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Move it by ``ref_model_mixup_alpha``."""
            if state.global_step % args.ref_model_sync_steps == 0:
                trainer.move_reference(args.ref_model_mixup_alpha)

    return Mover()

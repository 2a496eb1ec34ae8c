"""Runs sequences through a reference model, as TRL does, in the largest batches that fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.data.padding import pad_right

if TYPE_CHECKING:
    import torch

    from alignzoo.train.reference.sequences import Sequence as Tokens
    from alignzoo.train.reference.store import Values

TOKENS = 2**17  #: tokens of the first batch on a GPU, padding included; halved whenever its memory does not suffice


class Scorer:
    """Scores sequences under the reference of one of TRL's trainers, which is its policy before training.

    On a CPU, each sequence goes through by itself: its number then does not depend on what else is computed, down to
    the last bit, and a core has enough to do. On a GPU, sequences of like length go together.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.model = trainer.ref_model or trainer.model
        self.chosen = trainer.args.precompute_ref_batch_size
        self.tokens = TOKENS if trainer.accelerator.device.type == "cuda" else 1

    def score(self, sequences: Sequence[Tokens]) -> Iterator[Values]:
        """Yield the weighted sums of log-probabilities, in nats, batch by batch; sorted, the longest first, is best."""
        import torch

        todo = list(sequences)
        while todo:
            batch = todo[: self._count_sequences(len(todo[0].ids))]
            try:
                found = self._score_batch(batch)
            except torch.OutOfMemoryError:
                if len(batch) == 1 or self.chosen:
                    raise
                self.tokens = len(batch) * len(batch[0].ids) // 2
                torch.cuda.empty_cache()
                continue
            del todo[: len(batch)]
            yield found

    def _count_sequences(self, length: int) -> int:
        """Return the sequences of ``length`` tokens in a batch: what the user set, or as many as may fit."""
        return int(self.chosen or max(1, self.tokens // length))

    def _score_batch(self, batch: Sequence[Tokens]) -> Values:
        import torch

        inputs, weights = pad_batch(batch, self.trainer.processing_class.pad_token_id, self.trainer.accelerator.device)
        with torch.no_grad(), use_reference(self.trainer), self.trainer.accelerator.autocast():
            found = self.model(**inputs, use_cache=False, fused_lm_head=True).log_probs
        found = found[:, -weights.shape[1] :].float()  # prompt learning puts virtual tokens in front
        sums: Values = (found * weights).sum(1).cpu().numpy()
        return sums


def pad_batch(batch: Sequence[Tokens], pad: int, device: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the model's inputs, (sequences, longest) each, filled up on the right, and the weights of the tokens.

    Labels are -100 where TRL's fused head need not score; the weights, (sequences, longest - 1), are 0 there.
    """
    import torch
    from torch.nn import functional
    from torch.nn.utils.rnn import pad_sequence

    ids, mask = pad_right([one.ids for one in batch], pad)
    weights = pad_sequence([torch.tensor(one.weights, dtype=torch.float32) for one in batch], batch_first=True)
    labels = ids.where(functional.pad(weights, (1, 0)) != 0, -100)
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to(device) for name, tensor in inputs.items()}, weights.to(device)


@contextlib.contextmanager
def use_reference(trainer: Any) -> Iterator[None]:
    """Leave out the adapter that trains, as TRL does (or take its frozen copy), and recompute no activations."""
    from peft import PeftModel
    from trl.models.utils import disable_gradient_checkpointing
    from trl.trainer.utils import use_adapter

    with contextlib.ExitStack() as stack:
        stack.enter_context(disable_gradient_checkpointing(trainer.model, trainer.args.gradient_checkpointing_kwargs))
        model = trainer.accelerator.unwrap_model(trainer.model)
        if trainer.ref_model is None and isinstance(model, PeftModel):
            stack.enter_context(use_adapter(model, "ref" if "ref" in model.peft_config else None))
        yield

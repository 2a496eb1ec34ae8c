"""Divides the rows of a step into batches by a budget of tokens, rows of like length together.

The step stays the same: each batch weighs as many rows as it holds, and rows stay in their step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alignzoo.models.shared_prefix.first_batch import is_packing
from alignzoo.models.shared_prefix.supported import backbone_of
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor


def bound_batches(cfg: DictConfig, trainer: Any) -> None:
    """Let ``trainer`` put at most ``train.per_device_batch_tokens`` through its model at once, where that is set.

    Raises:
        UserError: the method builds a trainer of its own, without such batches.
    """
    if cfg.train.per_device_batch_tokens is None:
        return
    if not isinstance(trainer, TokenBatches):
        raise UserError(
            f"train.per_device_batch_tokens: method={cfg.method.name} builds its trainer without Method.build_trainer. "
            "Use train.per_device_batch_size."
        )
    trainer.batch_tokens = cfg.train.per_device_batch_tokens


class TokenBatches:
    """A mixin for trainers whose loss is the mean of its rows' losses, or counts the tokens of the whole step.

    The loader hands it the rows of a step (of one process), which it divides, collates and accumulates itself.
    """

    batch_tokens: int | None = None
    accelerator: Any
    args: Any
    data_collator: Any

    _share = 1.0  #: share of the step's rows that are in the batch whose loss is computed

    def get_train_dataloader(self) -> Any:
        """As TRL's, but rows are not collated."""
        collator = self.data_collator
        if self.batch_tokens is not None:
            self.data_collator = Rows
        try:
            return super().get_train_dataloader()  # type: ignore[misc]
        finally:
            self.data_collator = collator

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Return the loss of the step; gradients add up over its batches, and are synchronised with the last."""
        if not isinstance(inputs, Rows):
            loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
            return loss
        import torch

        parts = self._split_rows(inputs.rows)
        batches = [self.data_collator(part) for part in parts]
        items = self._get_num_items_in_batch(batches, self.args.device)  # type: ignore[attr-defined]
        before = {name: len(values) for name, values in self._get_metrics().items()}
        losses: list[Tensor] = []
        try:
            for part, batch in zip(parts, batches, strict=True):
                self._share = len(part) / len(inputs.rows)
                last = len(losses) + 1 == len(parts)
                with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                    losses.append(super().training_step(model, batch, items))  # type: ignore[misc]
        finally:
            self._share = 1.0
        self._average([len(part) for part in parts], before)
        return torch.stack(losses).sum()

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """As TRL's, times the batch's share of the rows where the loss is their mean."""
        found = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self._share == 1.0 or kwargs.get("num_items_in_batch") is not None:
            return found
        return found * self._share

    def _split_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
        """Return the batches, the same number on every process, because processes wait for each other in each."""
        import torch

        shared = is_packing(backbone_of(self.accelerator.unwrap_model(self.model)))  # type: ignore[attr-defined]
        parts = divide([count_tokens(row, shared) for row in rows], self.batch_tokens or 0, padded=not shared)
        count = torch.tensor([len(parts)], device=self.accelerator.device)
        most = int(self.accelerator.gather(count).max())
        while len(parts) < most:
            largest = max(range(len(parts)), key=lambda number: len(parts[number]))
            whole, half = parts[largest], len(parts[largest]) // 2
            parts[largest : largest + 1] = [whole[:half], whole[half:]]
        return [[rows[place] for place in part] for part in parts]

    def _get_metrics(self) -> Mapping[str, list[float]]:
        """Return what TRL has logged since its last line, a value for each batch."""
        for name in ("_metrics", "_stored_metrics"):
            if hasattr(self, name):
                values: Mapping[str, list[float]] = getattr(self, name)["train"]
                return values
        return {}

    def _average(self, weights: Sequence[int], before: Mapping[str, int]) -> None:
        """Average the values that this step has logged, weighed by rows."""
        for name, values in self._get_metrics().items():
            first = before.get(name, 0)
            if len(weights) > 1 and len(values) - first == len(weights):
                pairs = zip(values[first:], weights, strict=True)
                values[first:] = [sum(value * weight for value, weight in pairs) / sum(weights)]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that are not collated yet, in a container that accelerate does not search for tensors."""

    rows: Sequence[Mapping[str, Any]]

    def __contains__(self, name: object) -> bool:
        return False  # transformers looks for labels and input ids to count, and finds them in the batches


def count_tokens(row: Mapping[str, Any], shared: bool) -> list[int]:
    """Return the tokens of a row's sequences, or with ``shared`` of its prompt and completions, the prompt once."""
    prompt = len(row.get("prompt_ids") or ())
    completions = [len(ids) for name, ids in row.items() if name.endswith("_ids") and not name.startswith("prompt")]
    return [prompt + sum(completions)] if shared else [prompt + completion for completion in completions]


def divide(rows: Sequence[Sequence[int]], budget: int, padded: bool) -> list[list[int]]:
    """Return batches of row numbers, the longest rows first, each within the budget or of a single row.

    Args:
        rows: the lengths of each row's sequences, in tokens.
        budget: positions of a batch: tokens, and the padding up to its longest sequence where it is ``padded``.
    """
    longest = [max(row) for row in rows]
    batches: list[list[int]] = []
    taken = 0
    for place in sorted(range(len(rows)), key=lambda place: -longest[place]):
        batch = batches[-1] if batches else []
        width = longest[batch[0]] if batch and padded else longest[place]
        added = width * len(rows[place]) if padded else sum(rows[place])
        if batch and taken + added <= budget:
            batch.append(place)
            taken += added
        else:
            batches.append([place])
            taken = longest[place] * len(rows[place]) if padded else sum(rows[place])
    return batches

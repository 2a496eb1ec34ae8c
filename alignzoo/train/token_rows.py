"""Hands tokenised rows to TRL's trainers, each of which would tokenise them in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.train.batches import TokenBatches
from alignzoo.train.reference.precompute import CachedReference

if TYPE_CHECKING:
    from datasets import Dataset


class TokenRows:
    """A mixin for TRL's trainers: rows come with token ids and are left as they are."""

    args: Any

    # patch: trl DPOTrainer._prepare_dataset
    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """DPO, KTO, SFT and reward trainers: leave out TRL's own tokenising, truncating and dropping."""
        return dataset

    # patch: trl ORPOTrainer.tokenize_row
    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        """ORPO's and CPO's: the same ids under the names that these trainers use."""
        row: dict[str, Any] = {"prompt_input_ids": feature["prompt_ids"]}
        row["prompt_attention_mask"] = [1] * len(feature["prompt_ids"])
        for answer in ("chosen", "rejected"):
            ids = feature["prompt_ids"] + feature[f"{answer}_ids"]
            row[f"{answer}_input_ids"] = ids
            row[f"{answer}_attention_mask"] = [1] * len(ids)
            row[f"{answer}_labels"] = [-100] * len(feature["prompt_ids"]) + feature[f"{answer}_ids"]
        return row

    # patch: transformers Trainer._get_train_sampler
    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Any:
        """Unpaired rows: keep the blocks whose KL pairs were made together, in another order each epoch.

        Prompts: TRL's order, from a sampler that a resumed run can set to its epoch.
        """
        dataset = self.train_dataset if train_dataset is None else train_dataset  # type: ignore[attr-defined]
        if "KL_completion_ids" in dataset.column_names:
            return BlockSampler(len(dataset), self.args.train_batch_size, self.args.data_seed)
        sampler = super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        return EpochRepeats(sampler) if type(sampler).__name__ == "RepeatSampler" else sampler


class BlockSampler:
    """Yields row numbers block by block, the blocks shuffled anew each epoch; a short last block stays last."""

    def __init__(self, rows: int, block: int, seed: int) -> None:
        self.rows, self.block, self.seed, self.epoch = rows, block, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        whole = self.rows // self.block
        for block in np.random.default_rng([self.seed, self.epoch]).permutation(whole):
            yield from range(int(block) * self.block, int(block + 1) * self.block)
        yield from range(whole * self.block, self.rows)


class EpochRepeats:
    """TRL's ``RepeatSampler``, whose order depends on the number of the epoch, not on earlier epochs."""

    def __init__(self, repeats: Any) -> None:
        self.repeats, self.epoch = repeats, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate at the start of each epoch, also after resuming."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.repeats)

    def __iter__(self) -> Iterator[int]:
        if self.repeats.shuffle:
            import torch

            self.repeats.generator.manual_seed(self.repeats.seed)
            for _ in range(self.epoch):  # as TRL draws one order after the other
                torch.randperm(self.repeats.num_samples, generator=self.repeats.generator)
        yield from self.repeats


def accept_token_ids(trainer: type[Any]) -> type[Any]:
    """Return ``trainer`` with :class:`TokenRows` and the mixins that make it faster, under its own name."""
    bases = (TokenRows, CachedReference, TokenBatches, trainer)
    return type(trainer.__name__, bases, {"__module__": trainer.__module__})

"""Makes what batches of pairs have beside TRL's: margins, gold completions, and numbers to draw tokens by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Row = Mapping[str, Any]


@dataclass(frozen=True)
class FurtherCollator:
    """Collates pairs as TRL does, and what :meth:`alignzoo.Method.further_columns` names of them.

    ``margin`` is (pairs,); gold completions stand behind the chosen and the rejected ones, with the same prompts.
    """

    collate: Any
    """TRL's collator."""

    further: Sequence[str]

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the batch, with ``margin`` and a third more sequences where they are asked for."""
        import torch

        batch: dict[str, Tensor] = self.collate(list(rows))
        if "gold_ids" in self.further:
            third = self.collate([{**row, "chosen_ids": row["gold_ids"], "rejected_ids": []} for row in rows])
            sequences = ("input_ids", "attention_mask", "completion_mask")
            batch |= {name: self._add_rows(name, batch[name], third[name][: len(rows)]) for name in sequences}
        if "margin" in self.further:
            batch["margin"] = torch.tensor([row["margin"] for row in rows], dtype=torch.float32)
        return batch

    def _add_rows(self, name: str, first: Tensor, second: Tensor) -> Tensor:
        """Return the rows of both, padded on the right to the same length."""
        import torch
        from torch.nn.functional import pad

        width = max(first.shape[1], second.shape[1])
        value = self.collate.pad_token_id if name == "input_ids" else 0
        return torch.cat([pad(part, (0, width - part.shape[1]), value=value) for part in (first, second)])


def draw_numbers(ids: Sequence[int], count: int, seed: int, step: int) -> Any:
    """Return ``count`` numbers from 0 to 1, float32, that depend on the sequence, the run's seed and the step alone.

    So a resumed run draws as an uninterrupted one, and a row draws the same in whichever batch it is.
    """
    digest = hashlib.blake2b(np.asarray(ids, dtype=np.int64).tobytes(), digest_size=8).digest()
    return np.random.default_rng([seed, step, int.from_bytes(digest)]).random(count, dtype=np.float32)


def draw_for_batch(inputs: Mapping[str, Tensor], seed: int, step: int) -> Tensor:
    """Return the numbers of all sequences of a batch, (sequences, positions - 1), 0 where no completion has a token."""
    import torch

    kept, mask = inputs["attention_mask"].bool().cpu(), inputs["completion_mask"].bool().cpu()
    draws = torch.zeros(mask.shape)
    for row, ids in enumerate(inputs["input_ids"].cpu()):
        count = int(mask[row].sum())
        draws[row, mask[row]] = torch.from_numpy(draw_numbers(ids[kept[row]].tolist(), count, seed, step))
    return draws[:, 1:].to(inputs["input_ids"].device)

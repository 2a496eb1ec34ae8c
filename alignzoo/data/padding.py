"""Pads token ids into a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def pad_right(rows: Sequence[Any], pad: int) -> tuple[Tensor, Tensor]:
    """Return the rows' token ids, padded with ``pad``, and their attention mask; (rows, longest) each, int64."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids = [torch.tensor(row, dtype=torch.long) for row in rows]
    masks = [torch.ones_like(row) for row in ids]
    return pad_sequence(ids, batch_first=True, padding_value=pad), pad_sequence(masks, batch_first=True)

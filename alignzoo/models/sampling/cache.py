"""Keeps keys and values in buffers that have room for more tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

#: Tokens for which a full buffer gets room: it is copied once in so many tokens.
ROOM = 64


class RoomyLayer(DynamicLayer):
    """transformers' layer of keys and values, (rows, heads, tokens, size), which copies all of them at each token."""

    keys: Tensor
    values: Tensor
    _buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return all keys and values, the new ones written behind the others."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self._buffers is None or self._buffers[0].shape[-2] < end:
            self._buffers = self._grow(self.keys, key_states, end), self._grow(self.values, value_states, end)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep these rows; transformers' name comes from beams, which are reordered."""
        self._buffers = None
        super().reorder_cache(beam_idx)

    @staticmethod
    def _grow(old: Tensor, new: Tensor, end: int) -> Tensor:
        """Return a buffer for ``end`` tokens and some more, with the old ones in it."""
        grown = new.new_empty(*new.shape[:-2], end + ROOM, new.shape[-1])
        if old.numel():
            grown[:, :, : old.shape[-2]] = old
        return grown


def give_room(cache: DynamicCache) -> DynamicCache:
    """Let a new cache keep its keys and values in such buffers; layers of other kinds stay as they are."""
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = RoomyLayer
    return cache


def count_row_bytes(config: Any, tokens: int, dtype: torch.dtype) -> int:
    """Return the bytes of one row's keys and values, and of its distribution over the vocabulary."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kept = 2 * text.num_hidden_layers * heads * size * dtype.itemsize * (tokens + ROOM)
    return int(kept + DISTRIBUTION * text.vocab_size)


#: Bytes per token of the vocabulary while a token is drawn: logits, scores and probabilities in float32, their sums.
DISTRIBUTION = 4 * 4 + 8

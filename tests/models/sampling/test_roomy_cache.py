"""The buffers of keys and values hold what transformers' own layer holds."""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from alignzoo.models.sampling import cache
from alignzoo.models.sampling.cache import RoomyLayer, count_row_bytes, give_room


def test_tokens_and_rows_come_and_go_as_in_transformers_layer() -> None:
    own, theirs = RoomyLayer(), DynamicLayer()
    dice = torch.Generator().manual_seed(0)
    rows = 3
    for step, new in enumerate([5, 1, 1, cache.ROOM, 1, 2 * cache.ROOM, 1]):
        keys, values = torch.randn(2, rows, 2, new, 4, generator=dice)
        found, expected = own.update(keys, values), theirs.update(keys, values)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert own.get_seq_length() == theirs.get_seq_length()
        if step in (1, 3):
            kept = torch.tensor([2, 0, 2, 1]) if step == 1 else torch.tensor([3, 1])
            own.reorder_cache(kept)
            theirs.reorder_cache(kept)
            rows = len(kept)


def test_keys_are_not_copied_at_each_token() -> None:
    layer = RoomyLayer()
    places = set()
    for _ in range(cache.ROOM):
        keys, _ = layer.update(torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4))
        places.add(keys.data_ptr())
    assert len(places) == 1


def test_windows_stay_transformers_own() -> None:
    config = LlamaConfig(num_hidden_layers=2)
    assert [type(layer) for layer in give_room(DynamicCache(config=config)).layers] == [RoomyLayer] * 2
    config.layer_types, config.sliding_window = ["full_attention", "sliding_attention"], 8
    found = give_room(DynamicCache(config=config)).layers
    assert [type(layer) for layer in found] == [RoomyLayer, DynamicSlidingWindowLayer]


def test_a_rows_bytes_are_its_keys_values_and_distribution() -> None:
    config = LlamaConfig(
        num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, hidden_size=64, vocab_size=100
    )
    kept = 2 * 3 * 2 * 8 * (50 + cache.ROOM) * 4
    assert count_row_bytes(config, 50, torch.float32) == kept + 24 * 100

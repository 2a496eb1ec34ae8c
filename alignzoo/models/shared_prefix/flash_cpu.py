"""Calls PyTorch's flash attention on a CPU, one segment at a time.

Query (key heads, queries a key head, tokens, size), key and value (key heads, tokens, size).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alignzoo.models.shared_prefix.calls import Call, list_calls, take
from alignzoo.models.shared_prefix.tree import Node

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class CpuKernel:
    """Keys and values are seen by all queries of their group without a copy."""

    def plan(self, nodes: Sequence[Node], device: torch.device) -> list[Call]:
        """Return the calls of a packed row."""
        return list_calls(nodes)

    def group(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a model's query, key and value, each (1, heads, tokens, size), in this kernel's shapes."""
        return query.view(key.shape[1], -1, *query.shape[2:]), key[0], value[0]

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, call: Call, scale: float | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the output of the call's queries, their log-sum-exp, and nothing else that the way back needs."""
        wide = [_expand(tensor, query.shape[1], call) for tensor in (key, value)]
        part, total = _forward(take(query, call.queries), *wide, 0.0, call.causal, scale=scale)
        return part, total, []

    def backward(
        self, slope: Tensor, saved: Sequence[Tensor], call: Call, scale: float | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the call's queries, keys and values; saved: query, key, value, output, sums."""
        query, key, value, output, sums = saved
        rows = [take(tensor, call.queries) for tensor in (slope, query, output)]
        wide = [_expand(tensor, query.shape[1], call) for tensor in (key, value)]
        total = take(sums, call.queries, -1)
        slopes = _backward(rows[0], rows[1], *wide, rows[2], total, 0.0, call.causal, scale=scale)
        return slopes[0], slopes[1].sum(1), slopes[2].sum(1)


def _expand(tensor: Tensor, each: int, call: Call) -> Tensor:
    part = take(tensor, call.keys)
    return part[:, None].expand(part.shape[0], each, *part.shape[1:])

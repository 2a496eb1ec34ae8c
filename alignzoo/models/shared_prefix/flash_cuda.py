"""Calls PyTorch's flash attention on CUDA, all segments of a level at once. It was never run on a GPU.

Query (heads, tokens, size), key and value (key heads, tokens, size): the kernel knows grouped queries by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from alignzoo.models.shared_prefix.calls import Bounds, Call, join_calls, take
from alignzoo.models.shared_prefix.tree import Node


class CudaKernel:
    """The operators below ``torch.nn.attention.varlen``, whose own gradient leaves out that of the log-sum-exp."""

    def plan(self, nodes: Sequence[Node], device: torch.device) -> list[Call]:
        """Return the calls of a packed row."""
        return join_calls(nodes, device)

    def group(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a model's query, key and value, each (1, heads, tokens, size), in this kernel's shapes."""
        return query.squeeze(0), key.squeeze(0), value.squeeze(0)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, call: Call, scale: float | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the output of the call's queries, their log-sum-exp, and the state of a dropout that is not there.

        Raises:
            RuntimeError: the log-sum-exp does not come as (heads, tokens).
        """
        rows = _by_token(take(query, call.queries))
        inputs = [rows, *(_by_token(take(tensor, call.keys)) for tensor in (key, value))]
        part, total, state, unused, _ = torch.ops.aten._flash_attention_forward(
            *inputs, *_bounds(call), 0.0, call.causal, False, scale=scale
        )
        if total.shape != (rows.shape[1], rows.shape[0]):
            raise RuntimeError(f"flash attention's log-sum-exp has the shape {tuple(total.shape)}")
        return part.transpose(0, 1), total, [state, unused]

    def backward(
        self, slope: Tensor, saved: Sequence[Tensor], call: Call, scale: float | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the call's queries, keys and values; saved: as :meth:`forward` gave, in order."""
        query, key, value, output, sums, *state = saved
        rows, found, slopes = (_by_token(take(tensor, call.queries)) for tensor in (query, output, slope))
        wide = [_by_token(take(tensor, call.keys)) for tensor in (key, value)]
        total = take(sums, call.queries, -1).contiguous()
        inputs = [slopes.contiguous(), rows, *wide, found.contiguous(), total]
        d_query, d_key, d_value = torch.ops.aten._flash_attention_backward(
            *inputs, *_bounds(call), 0.0, call.causal, *state, scale=scale
        )
        return d_query.transpose(0, 1), d_key.transpose(0, 1), d_value.transpose(0, 1)


def _by_token(tensor: Tensor) -> Tensor:
    """Return (tokens, heads, size), each head's numbers side by side in memory."""
    turned = tensor.transpose(0, 1)
    return turned if turned.stride(-1) == 1 else turned.contiguous()


def _bounds(call: Call) -> tuple[Tensor, Tensor, int, int]:
    bounds = call.bounds
    assert isinstance(bounds, Bounds)
    return bounds.queries, bounds.keys, bounds.most_queries, bounds.most_keys

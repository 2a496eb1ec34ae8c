"""Stands in for CUDA's two flash attention operators on a CPU: torch's dispatcher holds it to their exact schema.

It takes what the kernel takes (packed segments, grouped queries, bounds) and refuses what the kernel refuses, in any
precision. The backward pass is the kernel's too: from the output and the sums that it is given, by segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.library import Library

Segment = tuple[slice, slice, Tensor]


class FlashOperators:
    """Counts calls, (is causal, segments), forward and backward."""

    def __init__(self) -> None:
        self.forward_calls: list[tuple[bool, int]] = []
        self.backward_calls: list[tuple[bool, int]] = []

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cum_seq_q: Tensor | None,
        cum_seq_k: Tensor | None,
        max_q: int,
        max_k: int,
        dropout_p: float,
        is_causal: bool,
        return_debug_mask: bool,
        **options: Any,
    ) -> tuple[Tensor, ...]:
        assert cum_seq_q is not None
        assert cum_seq_k is not None
        assert dropout_p == 0
        assert not return_debug_mask
        scale = self._check(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, options)
        self.forward_calls.append((is_causal, len(cum_seq_q) - 1))
        output, sums = torch.empty_like(query), query.new_empty(query.shape[1::-1], dtype=torch.float32)
        for queries, keys, hidden in self._segments(cum_seq_q, cum_seq_k, is_causal):
            scores = self._scores(query[queries], key[keys], scale, hidden)
            sums[:, queries] = scores.logsumexp(-1)
            wide = self._widen(value[keys], query.shape[1])
            output[queries] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), wide).to(query.dtype)
        state = torch.zeros(2, dtype=torch.uint64), torch.zeros((), dtype=torch.uint64)
        return output, sums, *state, query.new_empty(0)

    def backward(
        self,
        grad_out: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        logsumexp: Tensor,
        cum_seq_q: Tensor,
        cum_seq_k: Tensor,
        max_q: int,
        max_k: int,
        dropout_p: float,
        is_causal: bool,
        rng_state: Tensor,
        unused: Tensor,
        **options: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert dropout_p == 0
        assert (rng_state.shape, unused.shape) == ((2,), ())
        assert grad_out.is_contiguous()
        assert out.is_contiguous()
        assert logsumexp.is_contiguous()
        assert grad_out.dtype == out.dtype == query.dtype
        assert (out.shape, logsumexp.shape) == (query.shape, query.shape[1::-1])
        scale = self._check(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, options)
        self.backward_calls.append((is_causal, len(cum_seq_q) - 1))
        d_query, d_key, d_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        heads = query.shape[1]
        for queries, keys, hidden in self._segments(cum_seq_q, cum_seq_k, is_causal):
            shares = (self._scores(query[queries], key[keys], scale, hidden) - logsumexp[:, queries, None]).exp()
            slope, wide = grad_out[queries].float(), self._widen(value[keys], heads)
            own = (slope * out[queries].float()).sum(-1).T[..., None]
            d_scores = shares * (torch.einsum("qhd,khd->hqk", slope, wide) - own) * scale
            d_query[queries] = torch.einsum("hqk,khd->qhd", d_scores, self._widen(key[keys], heads)).to(query.dtype)
            d_key[keys] = self._narrow(torch.einsum("hqk,qhd->khd", d_scores, query[queries].float()), key)
            d_value[keys] = self._narrow(torch.einsum("hqk,qhd->khd", shares, slope), value)
        return d_query, d_key, d_value

    def _check(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cum_seq_q: Tensor,
        cum_seq_k: Tensor,
        max_q: int,
        max_k: int,
        options: dict[str, Any],
    ) -> float:
        """Refuse what the kernel would refuse, or compute in another order; return the scale."""
        scale = options.pop("scale", None)
        assert not {name for name, value in options.items() if value is not None}
        assert query.dtype == key.dtype == value.dtype
        assert query.dim() == key.dim() == value.dim() == 3
        assert key.shape == value.shape
        assert query.shape[1] % key.shape[1] == 0
        assert query.shape[2] == key.shape[2] <= 256
        assert query.shape[2] % 8 == 0
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
        assert len(cum_seq_q) == len(cum_seq_k) > 1
        for bounds, most, tensor in ((cum_seq_q, max_q, query), (cum_seq_k, max_k, key)):
            assert bounds.dtype == torch.int32
            assert bounds.is_contiguous()
            assert (bounds[0], bounds[-1]) == (0, len(tensor))
            assert 1 <= bounds.diff().min() <= bounds.diff().max() <= most
        assert max_q > 1, "of one query a segment, the kernel swaps groups and segments"
        return float(scale or query.shape[2] ** -0.5)

    def _segments(self, cum_seq_q: Tensor, cum_seq_k: Tensor, is_causal: bool) -> Iterator[Segment]:
        for number in range(len(cum_seq_q) - 1):
            queries, keys = (slice(*bounds[number : number + 2].tolist()) for bounds in (cum_seq_q, cum_seq_k))
            shape = queries.stop - queries.start, keys.stop - keys.start
            hidden = torch.ones(shape, dtype=torch.bool).triu(1 + shape[1] - shape[0]) if is_causal else None
            yield queries, keys, torch.zeros(shape, dtype=torch.bool) if hidden is None else hidden

    def _scores(self, query: Tensor, key: Tensor, scale: float, hidden: Tensor) -> Tensor:
        scores = torch.einsum("qhd,khd->hqk", query.float(), self._widen(key, query.shape[1])) * scale
        return scores.masked_fill(hidden, -torch.inf)

    def _widen(self, tensor: Tensor, heads: int) -> Tensor:
        return tensor.float().repeat_interleave(heads // tensor.shape[1], 1)

    def _narrow(self, slopes: Tensor, like: Tensor) -> Tensor:
        return slopes.unflatten(1, (like.shape[1], -1)).sum(2).to(like.dtype)


@contextmanager
def flash_on_cpu() -> Iterator[FlashOperators]:
    """Give torch's CPU the two operators, which it has not."""
    operators, library = FlashOperators(), Library("aten", "IMPL")
    library.impl("_flash_attention_forward", lambda *inputs, **more: operators.forward(*inputs, **more), "CPU")
    library.impl("_flash_attention_backward", lambda *inputs, **more: operators.backward(*inputs, **more), "CPU")
    try:
        yield operators
    finally:
        library._destroy()

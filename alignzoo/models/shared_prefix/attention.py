"""Attention over a packed row of trees: each token sees what precedes it in its own node, and all nodes above.

Each node is a causal part of a flash kernel's, and each prefix one without a mask, whose queries are all that continues
it. The parts are merged by their log-sum-exp, as flash attention merges its own blocks (Dao, 2023, "FlashAttention-2",
section 3.1), so that no mask is built and no key is repeated. On a CPU a part is a call of its own; on CUDA all nodes
are one call, and so are all prefixes of a depth. It was never run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from alignzoo.models.shared_prefix.calls import Call, add, merge, put
from alignzoo.models.shared_prefix.flash_cpu import CpuKernel
from alignzoo.models.shared_prefix.flash_cuda import CudaKernel
from alignzoo.models.shared_prefix.tree import Node

#: The implementation that takes trees; a model that the user runs on another one is left alone.
IMPLEMENTATION = "sdpa"


class Kernel(Protocol):
    """What a device's flash attention does with the parts of a packed row."""

    def plan(self, nodes: Sequence[Node], device: torch.device) -> list[Call]:
        """Return the calls of a packed row: those that cover all queries come first."""

    def group(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a model's query, key and value, each (1, heads, tokens, size), in this kernel's shapes."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, call: Call, scale: float | None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the output of the call's queries, their log-sum-exp, and what else the way back needs."""

    def backward(
        self, slope: Tensor, saved: Sequence[Tensor], call: Call, scale: float | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the call's queries, keys and values."""


#: By type of device.
KERNELS: dict[str, Kernel] = {"cpu": CpuKernel(), "cuda": CudaKernel()}


class Trees:
    """The nodes of one packed row, as a backbone hands them through to its attention layers."""

    def __init__(self, nodes: list[Node], device: torch.device) -> None:
        self.kernel = KERNELS[device.type]
        self.calls = self.kernel.plan(nodes, device)

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Return attention's output, (1, tokens, heads, size), of a query of (1, heads, tokens, size).

        Keys and values have as many heads or a fraction of them (grouped-query attention).
        """
        kind = query.device.type
        if torch.is_autocast_enabled(kind):  # as autocast does for PyTorch's own attention: some norms leave float32
            query, key, value = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (query, key, value))
        apply: Callable[..., Tensor] = TreeAttention.apply
        packed = apply(*self.kernel.group(query, key, value), self.kernel, self.calls, scaling)
        return packed.movedim(-2, 0).reshape(1, query.shape[2], query.shape[1], query.shape[3])


class TreeAttention(torch.autograd.Function):
    """Query (..., tokens, size), as the kernel groups it; key and value (key heads, tokens, size)."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, kernel: Kernel, calls: list[Call], scale: float | None
    ) -> Tensor:
        """Return the output in the query's shape, laid out in memory token by token, as the next layer reads it."""
        *heads, tokens, size = query.shape
        output = query.new_empty(tokens, *heads, size).movedim(0, -2)
        sums = query.new_empty((*heads, tokens), dtype=torch.float32)
        state: list[Tensor] = []
        for call in calls:
            part, total, state = kernel.forward(query, key, value, call, scale)
            if call.causal:
                put(output, call.queries, part)
                put(sums, call.queries, total, -1)
            else:
                merge(output, sums, part, total, call.queries)
        ctx.save_for_backward(query, key, value, output, sums, *state)
        ctx.kernel, ctx.calls, ctx.scale = kernel, calls, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        """Take each part by itself: given the merged output and sums, a block's gradients do not depend on others."""
        saved = ctx.saved_tensors
        d_query, d_key, d_value = torch.empty_like(saved[0]), torch.zeros_like(saved[1]), torch.zeros_like(saved[2])
        for call in ctx.calls:
            slopes = ctx.kernel.backward(slope, saved, call, ctx.scale)
            (put if call.causal else add)(d_query, call.queries, slopes[0])
            add(d_key, call.keys, slopes[1])
            add(d_value, call.keys, slopes[2])
        return d_query, d_key, d_value, None, None, None


def register() -> None:
    """Let transformers' SDPA attention take trees where a backbone hands it some; all else goes as before."""
    from transformers import AttentionInterface

    before = AttentionInterface()[IMPLEMENTATION]
    if not getattr(before, "takes_trees", False):
        AttentionInterface.register(IMPLEMENTATION, _accept_trees(before))


def _accept_trees(before: Callable[..., Any]) -> Callable[..., Any]:
    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *args: Any, **options: Any
    ) -> tuple[Tensor, Any]:
        trees: Trees | None = options.pop("trees", None)
        if trees is None:
            dense: tuple[Tensor, Any] = before(module, query, key, value, mask, *args, **options)
            return dense
        return trees.attend(module, query, key, value, options.get("scaling")), None

    attention.takes_trees = True  # type: ignore[attr-defined]
    return attention

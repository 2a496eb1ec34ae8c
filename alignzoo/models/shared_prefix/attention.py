"""Attention over a packed row of trees: each token sees what precedes it in its own node, and all nodes above.

On a CPU, each node is one causal call of PyTorch's flash kernel, and each prefix one call without a mask, whose queries
are all that continues it. The parts are merged by their log-sum-exp, as flash attention merges its own blocks (Dao,
2023, "FlashAttention-2", section 3.1), so that no mask is built and no key is repeated. On CUDA, FlexAttention's block
mask says the same; it was not measured there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from alignzoo.models.shared_prefix.tree import Node

#: The implementation that takes trees; a model that the user runs on another one is left alone.
IMPLEMENTATION = "sdpa"

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Trees:
    """The nodes of one packed row, as a backbone hands them through to its attention layers."""

    def __init__(self, nodes: list[Node], device: torch.device) -> None:
        self.nodes = nodes
        self.block_mask = _make_block_mask(nodes, device) if device.type == "cuda" else None

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Return attention's output, (1, tokens, heads, size), of a query of (1, heads, tokens, size).

        Keys and values have as many heads or a fraction of them (grouped-query attention).
        """
        kind = query.device.type
        if torch.is_autocast_enabled(kind):  # as autocast does for PyTorch's own attention: some norms leave float32
            query, key, value = (tensor.to(torch.get_autocast_dtype(kind)) for tensor in (query, key, value))
        if self.block_mask is not None:
            from transformers.integrations.flex_attention import flex_attention_forward

            output: Tensor = flex_attention_forward(module, query, key, value, self.block_mask, scaling=scaling)[0]
            return output
        groups = query.view(key.shape[1], -1, *query.shape[2:])
        apply: Callable[..., Tensor] = TreeAttention.apply
        packed = apply(groups, key[0], value[0], self.nodes, scaling)
        return packed.permute(2, 0, 1, 3).reshape(1, query.shape[2], query.shape[1], query.shape[3])


class TreeAttention(torch.autograd.Function):
    """The CPU's: query (key heads, queries a key head, tokens, size), key and value (key heads, tokens, size)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, nodes: list[Node], scale: float | None) -> Tensor:
        """Return the output in the query's shape, laid out in memory token by token, as the next layer reads it."""
        heads, each, tokens, size = query.shape
        output = query.new_empty(tokens, heads, each, size).permute(1, 2, 0, 3)
        sums = query.new_empty((heads, each, tokens), dtype=torch.float32)
        for queries, keys in _list_calls(nodes):
            own = queries == keys
            part, total = _forward(query[:, :, queries], *_expand_heads(each, key, value, keys), 0.0, own, scale=scale)
            if own:
                output[:, :, queries], sums[:, :, queries] = part, total
            else:  # exp(total) / (exp(total) + exp(before)) is the new part's share
                share = torch.sigmoid(total - sums[:, :, queries]).to(part.dtype)
                output[:, :, queries] = output[:, :, queries].lerp(part, share[..., None])
                sums[:, :, queries] = torch.logaddexp(sums[:, :, queries], total)
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.nodes, ctx.scale = nodes, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        """Take each part by itself: given the merged output and sums, a block's gradients do not depend on others."""
        query, key, value, output, sums = ctx.saved_tensors
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for queries, keys in _list_calls(ctx.nodes):
            own = queries == keys
            rows = [tensor[:, :, queries] for tensor in (slope, query, output)]
            wide = _expand_heads(query.shape[1], key, value, keys)
            slopes = _backward(rows[0], rows[1], *wide, rows[2], sums[:, :, queries], 0.0, own, scale=ctx.scale)
            d_query[:, :, queries] = slopes[0] if own else d_query[:, :, queries] + slopes[0]
            d_key[:, keys] += slopes[1].sum(1)
            d_value[:, keys] += slopes[2].sum(1)
        return d_query, d_key, d_value, None, None


def _list_calls(nodes: list[Node]) -> list[tuple[slice, slice]]:
    """Return (queries, keys) of each kernel call: the nodes by themselves, then each prefix for all below it."""
    own = [(slice(node.start, node.stop), slice(node.start, node.stop)) for node in nodes]
    above = [(slice(node.stop, node.end), slice(node.start, node.stop)) for node in nodes if node.end > node.stop]
    return own + above


def _expand_heads(each: int, key: Tensor, value: Tensor, keys: slice) -> tuple[Tensor, Tensor]:
    """Return keys and values of a slice as (key heads, queries a key head, tokens, size), without a copy."""
    heads, _, size = key.shape
    wide = (heads, each, keys.stop - keys.start, size)
    return key[:, None, keys].expand(wide), value[:, None, keys].expand(wide)


def _make_block_mask(nodes: list[Node], device: torch.device) -> Any:
    """A query sees the keys before it whose subtree it stands in."""
    from torch.nn.attention.flex_attention import create_block_mask

    lengths = torch.tensor([node.stop - node.start for node in nodes])
    ends = torch.tensor([node.end for node in nodes]).repeat_interleave(lengths).to(device)

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends[key])

    tokens = nodes[-1].stop
    return create_block_mask(visible, None, None, tokens, tokens, device=device, _compile=True)


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

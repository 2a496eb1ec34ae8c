"""Attention over random trees is dense attention, value and gradient, by the kernels of a CPU and of CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from flash_stand_in import FlashOperators, flash_on_cpu
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from alignzoo.models.shared_prefix.attention import KERNELS, Trees
from alignzoo.models.shared_prefix.calls import join_calls, list_levels
from alignzoo.models.shared_prefix.tree import Node

CPU = torch.device("cpu")

Tree = tuple[int, list["Tree"]]
trees = st.recursive(
    st.tuples(st.integers(1, 5), st.just([])),
    lambda below: st.tuples(st.integers(1, 5), st.lists(below, min_size=1, max_size=3)),
    max_leaves=6,
)
packed_rows = st.lists(trees, min_size=1, max_size=3)
heads_of_keys = st.sampled_from([(1, 1), (2, 2), (2, 4), (1, 3), (3, 6)])

#: Two prompts with two answers each, one of them of one token, and between them a row of its own.
PAIRS: list[Tree] = [(4, [(3, []), (1, [])]), (2, []), (3, [(2, []), (2, [])])]


@pytest.fixture(scope="module", autouse=True)
def operators() -> Iterator[FlashOperators]:
    with flash_on_cpu() as found:
        yield found


def lay_out(row: list[Tree]) -> list[Node]:
    """Nodes of a packed row, by their definition: parents before children, each subtree in one piece."""
    nodes: list[Node] = []

    def lay(tree: Tree, at: int) -> int:
        here, stop = len(nodes), at + tree[0]
        nodes.append(Node(at, stop, stop))
        end = stop
        for below in tree[1]:
            end = lay(below, end)
        nodes[here] = Node(at, stop, end)
        return end

    at = 0
    for tree in row:
        at = lay(tree, at)
    return nodes


def hidden_from(nodes: list[Node]) -> Tensor:
    """Which keys each token does not see, (tokens, tokens)."""
    hidden = torch.ones(nodes[-1].stop, nodes[-1].stop, dtype=torch.bool)
    for node in nodes:
        hidden[node.start : node.end, node.start : node.stop] = False
    return hidden | torch.ones_like(hidden).triu(1)


def make_inputs(nodes: list[Node], heads: tuple[int, int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, key, value and the output's gradient, as a model lays them out: token by token in memory."""
    dice = torch.Generator().manual_seed(len(nodes))
    tokens = nodes[-1].stop
    shapes = [(1, tokens, count, 8) for count in (heads[1], heads[0], heads[0], heads[1])]
    found = [torch.randn(shape, generator=dice).to(dtype) for shape in shapes]
    return [tensor.transpose(1, 2).requires_grad_() for tensor in found[:3]] + [found[3]]


def attend_dense(nodes: list[Node], query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    each = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(each, 1) for tensor in (key, value))
    scores = query @ key.transpose(2, 3) * (scale or query.shape[-1] ** -0.5)
    found: Tensor = scores.masked_fill(hidden_from(nodes), -torch.inf).softmax(-1) @ value
    return found.transpose(1, 2)


def pack(kernel: str, nodes: list[Node]) -> Trees:
    """Trees of a packed row on a CPU, for the kernel of a CPU or of CUDA."""
    found = Trees(nodes, CPU)
    found.kernel = KERNELS[kernel]
    found.calls = found.kernel.plan(nodes, CPU)
    return found


@pytest.mark.parametrize("kernel", ["cpu", "cuda"])
@settings(max_examples=200, deadline=None)
@given(row=packed_rows, heads=heads_of_keys, scale=st.sampled_from([None, 0.5]))
def test_random_trees_give_dense_attention_and_its_gradients(
    kernel: str, row: list[Tree], heads: tuple[int, int], scale: float | None
) -> None:
    nodes = lay_out(row)
    *inputs, slope = make_inputs(nodes, heads)
    found, dense = pack(kernel, nodes).attend(None, *inputs, scale), attend_dense(nodes, *inputs, scale)
    torch.testing.assert_close(found, dense, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(*(torch.autograd.grad(one, inputs, slope) for one in (found, dense)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@given(row=packed_rows)
def test_the_segments_of_all_levels_are_what_each_token_sees(row: list[Tree]) -> None:
    nodes = lay_out(row)
    seen = torch.zeros(nodes[-1].stop, nodes[-1].stop, dtype=torch.int64)
    for level in list_levels(nodes):
        queries, keys = (torch.zeros(nodes[-1].stop, dtype=torch.int64) for _ in range(2))
        for asked, given_keys in zip(level.queries, level.keys, strict=True):
            block = seen[asked, given_keys]
            block += torch.ones_like(block).tril() if level.causal else 1
            queries[asked] += 1
            keys[given_keys] += 1
        assert max(queries.max(), keys.max()) == 1  # no token twice: what is written or added has one order
    assert torch.equal(seen, (~hidden_from(nodes)).long())


def test_all_nodes_are_one_call_and_so_are_the_prefixes_of_each_depth(operators: FlashOperators) -> None:
    nodes = lay_out([*PAIRS, (3, [(2, [(1, []), (4, [])]), (1, [])])])
    *inputs, slope = make_inputs(nodes, (2, 4))
    operators.forward_calls.clear()
    operators.backward_calls.clear()
    pack("cuda", nodes).attend(None, *inputs, None).backward(slope)
    assert operators.forward_calls == operators.backward_calls == [(True, 12), (False, 3), (False, 1)]


def test_neighbours_are_not_gathered() -> None:
    calls = join_calls(lay_out([(4, [(3, []), (1, [])])]), CPU)
    assert [(call.queries, call.keys) for call in calls] == [(slice(0, 8), slice(0, 8)), (slice(4, 8), slice(0, 4))]
    between = join_calls(lay_out(PAIRS), CPU)[1]
    assert isinstance(between.queries, Tensor)
    assert isinstance(between.keys, Tensor)
    assert between.queries.tolist() == [4, 5, 6, 7, 13, 14, 15, 16]
    assert between.keys.tolist() == [0, 1, 2, 3, 10, 11, 12]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_differs_by_its_rounding_alone(dtype: torch.dtype) -> None:
    nodes = lay_out(PAIRS)
    *inputs, slope = make_inputs(nodes, (2, 4), dtype)
    found = pack("cuda", nodes).attend(None, *inputs, None)
    exact = [tensor.detach().float().requires_grad_() for tensor in inputs]
    dense = attend_dense(nodes, *exact, None)
    mine_all = [found, *torch.autograd.grad(found, inputs, slope)]
    exact_all = [dense, *torch.autograd.grad(dense, exact, slope.float())]
    for mine, theirs in zip(mine_all, exact_all, strict=True):
        assert mine.dtype == dtype
        assert (mine.float() - theirs).norm() / theirs.norm() < 4 * torch.finfo(dtype).eps


def test_sums_of_another_layout_are_refused(operators: FlashOperators, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_token(*inputs: Any, **options: Any) -> tuple[Tensor, ...]:
        output, sums, *more = forward(*inputs, **options)
        return output, sums.T.contiguous(), *more

    forward = operators.forward
    monkeypatch.setattr(operators, "forward", by_token)
    nodes = lay_out(PAIRS)
    *inputs, _ = make_inputs(nodes, (2, 4))
    with pytest.raises(RuntimeError, match=r"log-sum-exp has the shape \(17, 4\)"):
        pack("cuda", nodes).attend(None, *inputs, None)

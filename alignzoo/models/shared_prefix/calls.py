"""Lists the kernel calls that a packed row of trees takes, and merges what they return. CPU and CUDA share it.

First all nodes attend to themselves, then, one depth after the other, all that continues a prefix attends to it. Of a
depth, no token stands in two prefixes, nor below two of them. Tensors are (..., tokens, size), sums (..., tokens).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alignzoo.models.shared_prefix.tree import Node

#: Tokens of a packed row: neighbours, or their numbers, each at most once.
Place = slice | Tensor


@dataclass(frozen=True)
class Level:
    """Segments of a packed row: the queries of each attend to its keys."""

    queries: list[slice]
    keys: list[slice]
    causal: bool


@dataclass(frozen=True)
class Bounds:
    """Where the segments of a call begin and end, for a kernel that takes several."""

    queries: Tensor
    """int32, (segments + 1,), from 0 to the call's queries."""

    keys: Tensor
    """int32, (segments + 1,), from 0 to the call's keys."""

    most_queries: int
    """Tokens of the longest segment, at least 2."""

    most_keys: int
    """Tokens of the longest segment, at least 2."""


@dataclass(frozen=True)
class Call:
    """One kernel call: without ``bounds``, all queries attend to all keys."""

    queries: Place
    keys: Place
    causal: bool
    bounds: Bounds | None = None


def list_levels(nodes: Sequence[Node]) -> list[Level]:
    """Return the nodes by themselves, then the prefixes of each depth with all that continues them."""
    own = [slice(node.start, node.stop) for node in nodes]
    depths: list[Level] = []
    ends: list[int] = []  # of the nodes above
    for node in nodes:
        while ends and ends[-1] <= node.start:
            ends.pop()
        if node.end > node.stop:
            if len(ends) == len(depths):
                depths.append(Level([], [], causal=False))
            depths[len(ends)].queries.append(slice(node.stop, node.end))
            depths[len(ends)].keys.append(slice(node.start, node.stop))
        ends.append(node.end)
    return [Level(own, own, causal=True), *depths]


def list_calls(nodes: Sequence[Node]) -> list[Call]:
    """Return one call a segment."""
    levels = list_levels(nodes)
    return [Call(*pair, level.causal) for level in levels for pair in zip(level.queries, level.keys, strict=True)]


def join_calls(nodes: Sequence[Node], device: torch.device) -> list[Call]:
    """Return one call a level, with bounds, for kernels that take segments of many lengths."""
    return [_join_level(level, device) for level in list_levels(nodes)]


def _join_level(level: Level, device: torch.device) -> Call:
    queries, keys = _find_bounds(level.queries), _find_bounds(level.keys)
    # At least 2: of one query a segment, the kernel makes a call of another kind, with sums in another order.
    most = [max(2, int(np.diff(bounds).max())) for bounds in (queries, keys)]
    ends = [torch.from_numpy(bounds.astype(np.int32)).to(device) for bounds in (queries, keys)]
    places = [_join_slices(slices, device) for slices in (level.queries, level.keys)]
    return Call(places[0], places[1], level.causal, Bounds(ends[0], ends[1], most[0], most[1]))


def _find_bounds(slices: list[slice]) -> np.ndarray:
    return np.cumsum([0, *(one.stop - one.start for one in slices)])


def _join_slices(slices: list[slice], device: torch.device) -> Place:
    if all(before.stop == after.start for before, after in itertools.pairwise(slices)):
        return slice(slices[0].start, slices[-1].stop)
    return torch.from_numpy(np.concatenate([np.arange(one.start, one.stop) for one in slices])).to(device)


def take(tensor: Tensor, place: Place, dim: int = -2) -> Tensor:
    """Return the tokens of a place, a view where they are neighbours, else token by token in memory."""
    if isinstance(place, slice):
        return tensor.narrow(dim, place.start, place.stop - place.start)
    return tensor.movedim(dim, 0).index_select(0, place).movedim(0, dim)


def put(tensor: Tensor, place: Place, part: Tensor, dim: int = -2) -> None:
    """Write ``part`` over the tokens of a place."""
    if isinstance(place, slice):
        take(tensor, place, dim).copy_(part)
    else:
        tensor.movedim(dim, 0).index_copy_(0, place, part.movedim(dim, 0))


def add(tensor: Tensor, place: Place, part: Tensor, dim: int = -2) -> None:
    """Add ``part`` to the tokens of a place; none stands in it twice, so that the sums have one order."""
    if isinstance(place, slice):
        take(tensor, place, dim).add_(part)
    else:
        tensor.movedim(dim, 0).index_add_(0, place, part.movedim(dim, 0))


def merge(output: Tensor, sums: Tensor, part: Tensor, total: Tensor, place: Place) -> None:
    """Merge a part with what its queries have found so far, by their log-sum-exp; in place.

    Args:
        output: what all queries have found, (..., tokens, size).
        sums: the log-sum-exp of their scores, (..., tokens), float32.
        part: what the queries of ``place`` found among further keys.
        total: the log-sum-exp of these scores, float32.
        place: the queries.
    """
    before, found = take(sums, place, -1), take(output, place)
    share = torch.sigmoid(total - before).to(part.dtype)  # exp(total) / (exp(total) + exp(before)): the new part's
    put(output, place, found.lerp(part, share[..., None]))
    put(sums, place, torch.logaddexp(before, total), -1)

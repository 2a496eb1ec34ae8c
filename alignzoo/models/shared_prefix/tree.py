"""Finds the prefixes that rows of a batch share, and lays the rows out as trees, each distinct token once.

Pure arrays, no model: ``(rows, width)`` token ids in, the order of a packed row out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

#: Fewest tokens that rows must share to be branches of one tree: each branch costs attention calls of its own.
MIN_SHARED = 16


@dataclass(frozen=True)
class Node:
    """Tokens ``start`` to ``stop`` of a packed row, and below them, up to ``end``, all that continues them.

    A token attends to what precedes it in its own node, and to the whole of each node above.
    """

    start: int
    stop: int
    end: int


@dataclass(frozen=True)
class Bin:
    """One packed row: some of the batch's trees, one behind the other."""

    source: Integers
    """Where each token stands in the flattened padded rows, (tokens,)."""

    nodes: list[Node]
    """Parents before their children, each subtree in one piece."""


@dataclass(frozen=True)
class Packing:
    """A batch without padding and without repeated prefixes."""

    bins: list[Bin]

    places: Integers
    """Where each padded position stands in the bins, one behind the other, (rows, width); 0 for padding."""

    @property
    def tokens(self) -> int:
        """Tokens of all bins."""
        return sum(len(packed.source) for packed in self.bins)


@dataclass(frozen=True)
class _Branch:
    rows: list[int]
    first: int
    stop: int
    below: list[_Branch]

    def __len__(self) -> int:
        return self.stop - self.first + sum(map(len, self.below))


def pack(ids: Integers, mask: npt.NDArray[np.bool_], budget: int) -> Packing | None:
    """Return the batch's packing, or None where a row has padding between its tokens, or none has a token.

    Args:
        ids: padded token ids, (rows, width).
        mask: True where a token stands, (rows, width); padding may be on both sides.
        budget: tokens of a bin; a tree that is larger gets a bin of its own.
    """
    starts, lengths = mask.argmax(1), mask.sum(1)
    columns = np.arange(mask.shape[1])
    if not mask.any() or (mask != ((columns >= starts[:, None]) & (columns < (starts + lengths)[:, None]))).any():
        return None
    tokens = [row[start : start + length] for row, start, length in zip(ids, starts, lengths, strict=True)]
    trees = _build_trees(tokens, starts.tolist())
    places = np.zeros(ids.shape, dtype=np.int64)
    bins: list[Bin] = []
    for group in _fill_bins(trees, budget):
        bins.append(_lay_out(group, starts.tolist(), places, sum(len(done.source) for done in bins)))
    return Packing(bins, places)


def _build_trees(tokens: Sequence[Any], starts: Sequence[int]) -> list[_Branch]:
    """Sort the rows, so that those with a prefix in common are neighbours; rows share only what starts together."""
    keys = [(start, row.astype(">i8").tobytes()) for start, row in zip(starts, tokens, strict=True)]
    order = sorted(range(len(tokens)), key=keys.__getitem__)
    shared = [0]
    for before, row in itertools.pairwise(order):
        shared.append(_count_shared(tokens[before], tokens[row]) if starts[before] == starts[row] else 0)
    return _grow_branches(order, shared, [len(row) for row in tokens], 0)


def _count_shared(a: Any, b: Any) -> int:
    """Return how many tokens two rows have in common from their start."""
    length = min(len(a), len(b))
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if len(differs) else length


def _grow_branches(rows: list[int], shared: list[int], lengths: list[int], depth: int) -> list[_Branch]:
    """Return the branches of sorted ``rows`` from token ``depth`` on; ``shared``: what each has of the one before."""
    branches = []
    for first, last in _find_runs(shared, depth + MIN_SHARED):
        stop = min(shared[first + 1 : last], default=lengths[rows[first]])
        if stop > depth:  # else a row that ends here
            below = _grow_branches(rows[first:last], shared[first:last], lengths, stop) if last - first > 1 else []
            branches.append(_Branch(rows[first:last], depth, stop, below))
    return branches


def _find_runs(shared: Sequence[int], least: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the longest runs of neighbours that share at least so many tokens."""
    cuts = [0, *(place for place in range(1, len(shared)) if shared[place] < least), len(shared)]
    return itertools.pairwise(cuts)


def _fill_bins(trees: list[_Branch], budget: int) -> list[list[_Branch]]:
    """Put each tree, the largest first, into the first bin with room for it."""
    bins: list[list[_Branch]] = []
    for tree in sorted(trees, key=len, reverse=True):
        room = (group for group in bins if sum(map(len, group)) + len(tree) <= budget)
        group = next(room, None)
        if group is None:
            bins.append([tree])
        else:
            group.append(tree)
    return bins


def _lay_out(trees: list[_Branch], starts: list[int], places: Integers, offset: int) -> Bin:
    """Return the bin of these trees, and enter into ``places`` where their rows' tokens stand in it."""
    nodes: list[Node] = []
    source: list[Integers] = []

    def lay(branch: _Branch, at: int) -> int:
        stop = at + branch.stop - branch.first
        here = len(nodes)
        for row in branch.rows:
            places[row, starts[row] + branch.first : starts[row] + branch.stop] = np.arange(at, stop) + offset
        row = branch.rows[0]
        source.append(row * places.shape[1] + starts[row] + np.arange(branch.first, branch.stop))
        nodes.append(Node(at, stop, stop))
        end = stop
        for child in branch.below:
            end = lay(child, end)
        nodes[here] = Node(at, stop, end)
        return end

    at = 0
    for tree in trees:
        at = lay(tree, at)
    return Bin(np.concatenate(source), nodes)

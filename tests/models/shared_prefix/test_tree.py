"""Every row can be read off its packing, token by token, and no prefix that is long enough stands in it twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignzoo.models.shared_prefix.tree import MIN_SHARED, Packing, pack

Rows = list[tuple[int, list[int]]]

PREFIX = list(range(100, 100 + MIN_SHARED))


def padded(rows: Rows, right: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of (padding on the left, tokens), filled up with -1."""
    width = max(left + len(row) for left, row in rows) + right
    ids, mask = np.full((len(rows), width), -1), np.zeros((len(rows), width), dtype=bool)
    for number, (left, row) in enumerate(rows):
        ids[number, left : left + len(row)], mask[number, left : left + len(row)] = row, True
    return ids, mask


def packed(rows: Rows, budget: int = 10**6) -> Packing:
    packing = pack(*padded(rows), budget)
    assert packing is not None
    return packing


def visible(packing: Packing) -> np.ndarray:
    """Which keys each token of the bins sees, (tokens, tokens), by the definition of :class:`Node`."""
    seen = np.zeros((packing.tokens, packing.tokens), dtype=bool)
    offset = 0
    for one in packing.bins:
        for node in one.nodes:
            start, stop, end = node.start + offset, node.stop + offset, node.end + offset
            seen[start:stop, start:stop] = np.tri(stop - start, dtype=bool)
            seen[stop:end, start:stop] = True
        offset += len(one.source)
    return seen


prefixes = st.sampled_from([[], PREFIX, [*PREFIX, 1], PREFIX * 2, PREFIX * 2 + [1, 2]])
rows_of_tokens = st.lists(
    st.tuples(st.integers(0, 2), st.builds(list.__add__, prefixes, st.lists(st.integers(0, 2), max_size=20))),
    min_size=1,
    max_size=8,
).filter(lambda rows: any(tokens for _, tokens in rows))


@given(rows_of_tokens, st.integers(1, 200))
def test_each_token_sees_its_own_row_up_to_itself_and_nothing_else(rows: Rows, budget: int) -> None:
    ids, mask = padded(rows)
    packing = pack(ids, mask, budget)
    assert packing is not None
    source = np.concatenate([one.source for one in packing.bins])
    seen = visible(packing)
    for number, (left, tokens) in enumerate(rows):
        places = packing.places[number, left : left + len(tokens)]
        assert ids.ravel()[source[places]].tolist() == tokens
        assert (source[places] % ids.shape[1]).tolist() == list(range(left, left + len(tokens)))  # position ids
        for position, place in enumerate(places):
            assert sorted(np.flatnonzero(seen[place])) == sorted(places[: position + 1])


@given(rows_of_tokens, st.integers(1, 200))
def test_bins_keep_to_the_budget_unless_one_tree_exceeds_it(rows: Rows, budget: int) -> None:
    for one in packed(rows, budget).bins:
        roots = sum(not any(other.stop <= node.start < other.end for other in one.nodes) for node in one.nodes)
        assert len(one.source) <= budget or roots == 1


@given(rows_of_tokens)
def test_subtrees_lie_in_one_piece_and_parents_come_first(rows: Rows) -> None:
    for one in packed(rows).bins:
        assert one.nodes[0].start == 0
        assert [node.start for node in one.nodes[1:]] == [node.stop for node in one.nodes[:-1]]
        assert len(one.source) == one.nodes[-1].stop
        assert all(node.start < node.stop <= node.end for node in one.nodes)


@pytest.mark.parametrize(
    ("rows", "tokens"),
    [
        ([(0, [5] * 20)], 20),  # one row
        ([(0, [5] * 20)] * 3, 20),  # equal rows
        ([(0, PREFIX + [1] * 4), (0, PREFIX), (0, PREFIX + [1] * 30)], MIN_SHARED + 4 + 30),  # rows that begin others
        ([(0, [*PREFIX, 1]), (0, [*PREFIX, 2])], MIN_SHARED + 2),
        ([(0, [*PREFIX[:-1], 1]), (0, [*PREFIX[:-1], 2])], 2 * MIN_SHARED),  # too little in common to share
        ([(0, [*PREFIX, 1]), (1, [*PREFIX, 2])], 2 * MIN_SHARED + 2),  # elsewhere: other position ids
        ([(0, PREFIX * 2 + [1]), (0, PREFIX * 2 + [2]), (0, [*PREFIX, 3])], 2 * MIN_SHARED + 3),  # a prefix of a prefix
        ([(0, []), (0, [1, 2])], 2),  # a row without tokens
    ],
)
def test_shared_prefixes_stand_once(rows: Rows, tokens: int) -> None:
    assert packed(rows).tokens == tokens


def test_a_row_with_padding_inside_is_not_packed() -> None:
    ids, mask = padded([(0, [1, 2, 3]), (0, [4, 5, 6])])
    mask[1, 1] = False
    assert pack(ids, mask, 100) is None


def test_rows_without_any_token_are_not_packed() -> None:
    assert pack(np.ones((2, 3), dtype=int), np.zeros((2, 3), dtype=bool), 100) is None

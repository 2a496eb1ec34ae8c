"""Finds texts that are equal but for small differences, in time that grows with their number alone.

Two texts are near-equal where their words are the same, whatever their case, blanks, punctuation and ways to write a
character in Unicode (NFKC), or where their sets of word pairs have a Jaccard similarity of at least :data:`JACCARD`.
Which texts are compared is chosen by MinHash (Broder, 1997) and bands of it (Leskovec, Rajaraman and Ullman, Mining of
Massive Datasets, 3.4): of pairs with a similarity of 0.7 it chooses 89 %, with 0.8 98 %, with 0.9 more than 99.9 %.
Texts of few different words share bands by chance; so a pair is read only where :data:`LIKELY` of the minima are equal,
of which 16 bits are kept (Li and König, 2010). A band that more than :data:`COMMON` different texts share is a
template's, and joins none; so is a cluster of more than a third of all texts.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

JACCARD = 0.7  #: of word pairs, from which on two texts are near-equal: one other word among eleven
BANDS = 8  #: each of :data:`HASHES` minima; texts that share one are compared
HASHES = 4
LIKELY = 14  #: equal minima of all, from which on two texts are read: one in 1,000 with a similarity of 0.7 has fewer
STEP = 100_000  #: pairs whose minima are compared at once
COMMON = 100  #: different texts that share a band, above which it is a template's
SHARE = 1 / 3  #: of different texts that are one cluster, above which it is a template's
FEW = 3  #: texts that can be one cluster however few there are

Column = np.ndarray[Any, Any]

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff])")  #: scripts that write no blanks between words
_FACTORS = np.array(
    [int.from_bytes(hashlib.sha256(bytes([k])).digest()[:8], "big") | 1 for k in range(BANDS * HASHES)], np.uint64
)


def sign(texts: Sequence[str]) -> tuple[Column, Column]:
    """Return what equal and near-equal texts have in common, the same on every machine.

    Returns:
        A hash of each text's words, (texts,), and the minima of its word pairs' hashes, (texts, BANDS), the last 16
        bits of :data:`HASHES` in each; both int64.
    """
    if not len(texts):
        return np.zeros(0, np.int64), np.zeros((0, BANDS), np.int64)
    words = [_list_words(text) for text in texts]
    keys = [int.from_bytes(hashlib.blake2b(" ".join(one).encode(), digest_size=8).digest(), "big") for one in words]
    hashes = [[zlib.crc32(pair.encode()) for pair in _join_pairs(one)] for one in words]
    starts = np.cumsum([0, *map(len, hashes[:-1])])
    flat = np.array([value for one in hashes for value in one], np.uint64)
    minima = np.stack([np.minimum.reduceat(flat * factor >> np.uint64(32), starts) for factor in _FACTORS], 1)
    lanes = np.ascontiguousarray(minima & np.uint64(0xFFFF), "<u2")
    return np.array(keys, np.uint64).view(np.int64), lanes.view("<i8").astype(np.int64, copy=False)


def cluster(keys: Column, bands: Column, read_text: Callable[[int], str]) -> Column:
    """Return for each text the number of its cluster; which numbers they are means nothing.

    Args:
        keys: (texts,), of :func:`sign`.
        bands: (texts, BANDS), of :func:`sign`.
        read_text: gives the text at a place; asked only for those that are compared.
    """
    _, firsts, numbers = np.unique(keys, return_index=True, return_inverse=True)
    parents = list(range(len(firsts)))

    @functools.lru_cache(10_000)
    def read_pairs(place: int) -> frozenset[str]:
        return frozenset(_join_pairs(_list_words(read_text(int(firsts[place])))))

    for one, other in _choose_pairs(bands[firsts]):
        first, second = _find(parents, one), _find(parents, other)
        if first != second and _is_similar(read_pairs(one), read_pairs(other)):
            parents[max(first, second)] = min(first, second)
    found = np.array([_find(parents, place) for place in range(len(parents))], int)
    sizes = np.bincount(found, minlength=len(found))[found] if len(found) else found
    found = np.where(sizes > max(FEW, SHARE * len(found)), np.arange(len(found)), found)
    return found[numbers.reshape(-1)]


def cluster_texts(texts: Sequence[str]) -> list[int]:
    """Return for each text the number of its cluster: near-equal texts have the same."""
    return [int(number) for number in cluster(*sign(texts), texts.__getitem__)]


def _list_words(text: str) -> list[str]:
    """Return the words, without differences of case and of ways to write a character; the text where it has none."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(folded if folded.isascii() else _UNSPACED.sub(r" \1 ", folded)) or [folded.strip()]


def _join_pairs(words: Sequence[str]) -> list[str]:
    """Return the pairs of neighbours, begin and end of the text among them."""
    return [f"{one} {other}" for one, other in zip(["", *words], [*words, ""], strict=True)]


def _choose_pairs(bands: Column) -> list[list[int]]:
    """Return the pairs of places that share a band and are likely to be near-equal, each once."""
    lanes = np.ascontiguousarray(bands.astype("<i8", copy=False)).view("<u2")
    found = [np.zeros((0, 2), np.int64)]
    for band in bands.T:
        pairs = _list_neighbours(band)
        for some in np.split(pairs, range(STEP, len(pairs), STEP)):
            equal = lanes[some[:, 0]] == lanes[some[:, 1]]
            found.append(some[equal.sum(1) >= LIKELY])
    chosen: list[list[int]] = np.unique(np.concatenate(found), axis=0).tolist()
    return chosen


def _list_neighbours(band: Column) -> Column:
    """Return the pairs of places, (pairs, 2), that share a band and are neighbours among those that do."""
    import pandas as pd

    shared = np.flatnonzero(pd.Series(band).duplicated(keep=False))
    places = shared[np.argsort(band[shared], kind="stable")]
    _, numbers, counts = np.unique(band[places], return_inverse=True, return_counts=True)
    places, numbers = places[counts[numbers] <= COMMON], numbers[counts[numbers] <= COMMON]
    here = np.flatnonzero(numbers[1:] == numbers[:-1])
    return np.stack([places[here], places[here + 1]], 1)


def _is_similar(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= JACCARD * len(one | other)


def _find(parents: list[int], place: int) -> int:
    """Return the first of the texts that are joined with the one at ``place``."""
    while parents[place] != place:
        parents[place] = place = parents[parents[place]]
    return place

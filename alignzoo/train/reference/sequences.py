"""Reads the sequences whose log-probabilities a loss needs, from Arrow in bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000  #: rows read at once


@dataclass(frozen=True)
class Column:
    """One column of log-probabilities: the completions that it scores, and how it counts their tokens."""

    answer: str
    """The column with the completions' token ids."""

    limit: int | None = None
    """Tokens of prompt and completion after which a sequence is cut, as TRL cuts KTO's pairs of different rows."""

    other: str | None = None
    """With ``alpha``: the column of the completion that it is compared with."""

    alpha: float | None = None
    """Weight of the tokens beyond the other completion's length (TRL's ``ld_alpha``); None: all count in full."""

    def read_sequences(self, rows: Dataset) -> Iterator[Sequence]:
        """Yield the sequence of each row."""
        names = ["prompt_ids", self.answer, *([self.other] if self.other and self.alpha is not None else [])]
        for batch in rows.select_columns(names).with_format("arrow").iter(BATCH):
            for prompt, answer, *other in zip(*(batch.column(name) for name in names), strict=True):
                ids = np.concatenate([_read_ids(prompt), _read_ids(answer)])[: self.limit]
                full = len(_read_ids(other[0])) if other else None
                yield Sequence(ids, len(prompt), full, self.alpha)


@dataclass(frozen=True)
class Sequence:
    """A prompt and a completion, whose tokens' log-probabilities are added up."""

    ids: np.ndarray[Any, np.dtype[np.int32]]
    """Prompt and completion."""

    start: int
    """Where the completion begins."""

    full: int | None = None
    """Tokens of the completion that count in full; those behind count ``alpha`` times. None: all in full."""

    alpha: float | None = None

    @property
    def key(self) -> bytes:
        """A hash of all that its log-probability depends on, beside the model."""
        tail = None if self.full is None or self.full >= len(self.ids) - self.start else (self.full, self.alpha)
        digest = hashlib.blake2b(repr((self.start, tail)).encode(), digest_size=16)
        digest.update(self.ids.tobytes())
        return digest.digest()

    @property
    def weights(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """How much each token counts, but for the first, which nothing precedes: (tokens - 1,)."""
        weights = (np.arange(len(self.ids)) >= self.start).astype(np.float32)
        if self.full is not None and self.alpha is not None:
            weights[self.start + self.full :] *= self.alpha
        return weights[1:]


def _read_ids(scalar: Any) -> np.ndarray[Any, np.dtype[np.int32]]:
    ids: np.ndarray[Any, np.dtype[np.int32]] = scalar.values.to_numpy(zero_copy_only=False).astype(np.int32)
    return ids

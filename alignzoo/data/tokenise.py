"""One tokenisation for every method: chat template, BOS, EOS and lengths are decided here and nowhere else.

The answer's ids always follow the prompt's ids, which are exactly those that generation starts from; an answer ends in
exactly one EOS, whatever the template writes behind it (TRL's trainers disagree on both).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from alignzoo.data.chat_template import ChatTemplate
from alignzoo.data.prompt_end import cut_end, find_cuts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWERS = ("chosen", "rejected", "completion", "gold")


class Piece(NamedTuple):
    """What to tokenise for one column: a prompt, or an answer and the end of the prompt before it."""

    column: str
    text: str
    before: str = ""
    takes_bos: bool = False


class Tokeniser:
    """Turns canonical rows into token ids."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, eos_ids: Sequence[int], kwargs: Mapping[str, Any] | None = None
    ) -> None:
        """``eos_ids``: the ids at which generation ends; the tokenizer's own is the one appended where none is.

        ``kwargs``: arguments of every row for the chat template; a row's own go before them.
        """
        self.tokenizer, self.template = tokenizer, ChatTemplate(tokenizer, kwargs or {})
        self.eos_tokens = [
            tokenizer.convert_ids_to_tokens(i) for i in dict.fromkeys([tokenizer.eos_token_id, *eos_ids])
        ]

    @functools.cached_property
    def identity(self) -> str:
        """Changes whenever the same text might give other ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = backend.to_str() if backend else sorted(self.tokenizer.get_vocab().items())
        written = self.tokenizer.chat_template, sorted(self.template.kwargs.items())
        state = (rules, *written, self.eos_tokens, self._adds_bos, type(self.tokenizer).__name__)
        return hashlib.sha256(repr(state).encode()).hexdigest()

    @property
    def appended_eos(self) -> str | None:
        """The token that is written behind answers because the chat template ends none; None where it does itself."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        if not self.tokenizer.chat_template or self._is_ended(self.template.render(turns, {})):
            return None
        return str(self.tokenizer.eos_token)

    def encode(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, list[int]]]:
        """Return ``prompt_ids`` and ``<answer>_ids`` of each row.

        Raises:
            BadRow: as :meth:`ChatTemplate.split`.
        """
        return self.tokenise(self.render(rows))

    def render(self, rows: Sequence[dict[str, Any]]) -> list[list[Piece]]:
        """Return what is to be tokenised, row by row: the prompt, and each answer."""
        return [self._split(row) for row in rows]

    def tokenise(self, rows: Sequence[Sequence[Piece]]) -> list[dict[str, list[int]]]:
        """Return the ids of :meth:`render`, column by column.

        An answer's ids are those that it has behind its prompt, where the prompt keeps its own; where tokens merge
        across the boundary, it is tokenised by itself.
        """
        found = iter(self._tokenise_texts([piece.before + piece.text for row in rows for piece in row]))
        ends = list(dict.fromkeys(piece.before for row in rows for piece in row[1:] if piece.before != row[0].text))
        begun = dict(zip(ends, self._tokenise_texts(ends), strict=True))
        merged: list[tuple[dict[str, list[int]], Piece]] = []
        ids = [self._read_ids(row, found, begun, merged) for row in rows]
        alone = self._tokenise_texts([piece.text for _, piece in merged])
        for (row, piece), own in zip(merged, alone, strict=True):
            row[piece.column] = own
        return ids

    def _read_ids(
        self, pieces: Sequence[Piece], found: Iterator[list[int]], begun: Mapping[str, list[int]], merged: list[Any]
    ) -> dict[str, list[int]]:
        prompt: list[int] = []
        ids: dict[str, list[int]] = {}
        for piece in pieces:
            joined = next(found)
            before = prompt if piece.before == pieces[0].text else begun.get(piece.before, [])
            if piece.column == "prompt_ids":
                prompt = joined
                ids[piece.column] = [self.tokenizer.bos_token_id, *joined] if piece.takes_bos else joined
            elif joined[: len(before)] == before and len(joined) > len(before):
                ids[piece.column] = joined[len(before) :]
            else:
                merged.append((ids, piece))
        return ids

    def _tokenise_texts(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        return ids

    @functools.cached_property
    def _cuts(self) -> list[str]:
        return find_cuts(self.tokenizer)

    @functools.cached_property
    def _adds_bos(self) -> bool:
        bos = self.tokenizer.bos_token_id
        return bos is not None and self.tokenizer("a").input_ids[:1] == [bos]

    def _split(self, row: dict[str, Any]) -> list[Piece]:
        answers = {f"{name}_ids": row[name] for name in ANSWERS if row.get(name)}
        if row["prompt"] and row["prompt"][0]["role"] == "text":
            start = row["prompt"][0]["content"]
            ends = {column: answer[0]["content"] for column, answer in answers.items()}
            prompt = Piece("prompt_ids", start, takes_bos=self._adds_bos)
        else:
            start, ends = self.template.split(row, answers)
            prompt = Piece("prompt_ids", start)
        before = cut_end(start, self._cuts)
        return [prompt, *(Piece(column, self._end(end), before) for column, end in ends.items())]

    def _end(self, answer: str) -> str:
        """Return the answer up to the EOS that ends it; the tokenizer's own is appended where there is none."""
        return answer.rstrip() if self._is_ended(answer) else answer + str(self.tokenizer.eos_token)

    def _is_ended(self, answer: str) -> bool:
        return any(answer.rstrip().endswith(eos) for eos in self.eos_tokens)

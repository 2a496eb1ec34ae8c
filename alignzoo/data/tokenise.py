"""One tokenisation for every method: chat template, BOS, EOS and lengths are decided here and nowhere else.

The answer's ids always follow the prompt's ids, which are exactly those that generation starts from; an answer ends in
exactly one EOS, whatever the template writes behind it (TRL's trainers disagree on both).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from alignzoo.data.canonical import BadRow
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from alignzoo.data.canonical import Messages

ANSWERS = ("chosen", "rejected", "completion")


class Piece(NamedTuple):
    """What to tokenise for one column: a prompt, or an answer and the prompt before it."""

    column: str
    text: str
    before: str = ""
    takes_bos: bool = False


class Tokeniser:
    """Turns canonical rows into token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, eos_ids: Sequence[int]) -> None:
        """``eos_ids``: the ids at which generation ends; the tokenizer's own is the one appended where none is."""
        self.tokenizer = tokenizer
        self.eos_tokens = [
            tokenizer.convert_ids_to_tokens(i) for i in dict.fromkeys([tokenizer.eos_token_id, *eos_ids])
        ]

    @functools.cached_property
    def identity(self) -> str:
        """Changes whenever the same text might give other ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        rules = backend.to_str() if backend else sorted(self.tokenizer.get_vocab().items())
        state = (rules, self.tokenizer.chat_template, self.eos_tokens, self._adds_bos, type(self.tokenizer).__name__)
        return hashlib.sha256(repr(state).encode()).hexdigest()

    @property
    def appended_eos(self) -> str | None:
        """The token that is written behind answers because the chat template ends none; None where it does itself."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        if not self.tokenizer.chat_template or self._is_ended(self._render(turns, False)):
            return None
        return str(self.tokenizer.eos_token)

    def encode(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, list[int]]]:
        """Return ``prompt_ids`` and ``<answer>_ids`` of each row; one that does not extend its prompt lacks ids."""
        return self.tokenise(self.render(rows))

    def render(self, rows: Sequence[dict[str, Any]]) -> list[list[Piece]]:
        """Return what is to be tokenised, row by row: the prompt, and each answer that extends it."""
        return [self._split(row) for row in rows]

    def tokenise(self, rows: Sequence[Sequence[Piece]]) -> list[dict[str, list[int]]]:
        """Return the ids of :meth:`render`, column by column.

        An answer's ids are those that it has behind its prompt, where the prompt keeps its own; where tokens merge
        across the boundary, it is tokenised by itself.
        """
        found = iter(self._tokenise_texts([piece.before + piece.text for row in rows for piece in row]))
        merged: list[tuple[dict[str, list[int]], Piece]] = []
        ids = [self._read_ids(row, found, merged) for row in rows]
        alone = self._tokenise_texts([piece.text for _, piece in merged])
        for (row, piece), own in zip(merged, alone, strict=True):
            row[piece.column] = own
        return ids

    def _read_ids(self, pieces: Sequence[Piece], found: Iterator[list[int]], merged: list[Any]) -> dict[str, list[int]]:
        prompt: list[int] = []
        ids: dict[str, list[int]] = {}
        for piece in pieces:
            joined = next(found)
            if piece.column == "prompt_ids":
                prompt = joined
                ids[piece.column] = [self.tokenizer.bos_token_id, *joined] if piece.takes_bos else joined
            elif joined[: len(prompt)] == prompt and len(joined) > len(prompt):
                ids[piece.column] = joined[len(prompt) :]
            else:
                merged.append((ids, piece))
        return ids

    def _tokenise_texts(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        return ids

    @functools.cached_property
    def _adds_bos(self) -> bool:
        bos = self.tokenizer.bos_token_id
        return bos is not None and self.tokenizer("a").input_ids[:1] == [bos]

    def _split(self, row: dict[str, Any]) -> list[Piece]:
        prompt: Messages = row["prompt"]
        answers = [(f"{name}_ids", row[name]) for name in ANSWERS if row.get(name)]
        if prompt and prompt[0]["role"] == "text":
            start = prompt[0]["content"]
            ends = [(column, self._end(answer[0]["content"])) for column, answer in answers]
            return [Piece("prompt_ids", start, takes_bos=self._adds_bos), *(Piece(c, end, start) for c, end in ends)]
        start = self._render(prompt, True)
        found = [Piece("prompt_ids", start)]
        for column, answer in answers:
            whole = self._render([*prompt, *answer], False)
            if whole.startswith(start):
                found.append(Piece(column, self._end(whole[len(start) :]), start))
        return found

    def _render(self, messages: Messages, prompt: bool) -> str:
        if not self.tokenizer.chat_template:
            raise UserError(
                "the dataset holds conversations, and the model's tokenizer has no chat template.\n"
                "Set model.chat_template=chatml, or the path of a Jinja template."
            )
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except UserError:  # it does not end
            raise
        except Exception as error:  # templates raise their own complaints
            roles = ", ".join(message["role"] for message in messages)
            raise BadRow(f"the model's chat template refuses a conversation of {roles}: {error}") from None
        return text

    def _end(self, answer: str) -> str:
        """Return the answer up to the EOS that ends it; the tokenizer's own is appended where there is none."""
        return answer.rstrip() if self._is_ended(answer) else answer + str(self.tokenizer.eos_token)

    def _is_ended(self, answer: str) -> bool:
        return any(answer.rstrip().endswith(eos) for eos in self.eos_tokens)

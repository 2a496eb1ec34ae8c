"""One tokenisation for every method: chat template, BOS, EOS and lengths are decided here and nowhere else.

The answer's ids always follow the prompt's ids, which are exactly those that generation starts from; an answer ends in
exactly one stop token, whatever the template writes behind it (TRL's trainers disagree on both).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from alignzoo.data.layouts import Messages

ANSWERS = ("chosen", "rejected", "completion")


class Tokeniser:
    """Turns canonical rows into token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> None:
        """``stop_ids``: the ids at which generation stops; the tokenizer's EOS is the one appended where none is."""
        self.tokenizer = tokenizer
        self.stops = [tokenizer.convert_ids_to_tokens(i) for i in dict.fromkeys([tokenizer.eos_token_id, *stop_ids])]

    @property
    def identity(self) -> str:
        """Changes whenever the same text might give other ids."""
        state = (self.tokenizer.get_vocab(), self.tokenizer.chat_template, self.stops, type(self.tokenizer).__name__)
        vocab = sorted(state[0].items(), key=lambda item: item[1])
        return hashlib.sha256(repr((vocab, *state[1:])).encode()).hexdigest()

    def encode(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, list[int]]]:
        """Return ``prompt_ids`` and ``<answer>_ids`` of each row; one that does not extend its prompt lacks ids."""
        texts: list[str] = []
        places: list[tuple[int, str, bool]] = []
        for number, row in enumerate(rows):
            for name, text, templated in self._texts(row):
                texts.append(text)
                places.append((number, name, templated))
        ids = self._ids(texts)
        encoded: list[dict[str, list[int]]] = [{} for _ in rows]
        for (number, name, templated), tokens in zip(places, ids, strict=True):
            first = self.tokenizer.bos_token_id if name == "prompt_ids" and not templated and self._adds_bos else None
            encoded[number][name] = tokens if first is None else [first, *tokens]
        return encoded

    @property
    def _adds_bos(self) -> bool:
        bos = self.tokenizer.bos_token_id
        return bos is not None and self.tokenizer("a").input_ids[:1] == [bos]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False).input_ids if texts else []
        return ids

    def _texts(self, row: dict[str, Any]) -> list[tuple[str, str, bool]]:
        """Return (column, text, whether a template wrote it) of the prompt and of each answer that extends it."""
        prompt: Messages = row["prompt"]
        answers = [(name, row[name]) for name in ANSWERS if row.get(name)]
        if prompt and prompt[0]["role"] == "text":
            texts = [(name, self._ended(answer[0]["content"]), False) for name, answer in answers]
            return [("prompt_ids", prompt[0]["content"], False), *((f"{n}_ids", t, b) for n, t, b in texts)]
        start = self._render(prompt, True)
        found = [("prompt_ids", start, True)]
        for name, answer in answers:
            whole = self._render([*prompt, *answer], False)
            if whole.startswith(start):
                found.append((f"{name}_ids", self._ended(whole[len(start) :]), True))
        return found

    def _render(self, messages: Messages, prompt: bool) -> str:
        if not self.tokenizer.chat_template:
            raise UserError(
                "the dataset holds conversations, and the model's tokenizer has no chat template.\n"
                "Set model.chat_template=chatml, or the path of a Jinja template."
            )
        try:
            text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # templates raise their own complaints
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(f"the model's chat template refuses a conversation of {roles}: {error}") from None
        return text

    def _ended(self, answer: str) -> str:
        """Return the answer up to its last stop token, with EOS appended where there is none."""
        stripped = answer.rstrip()
        if any(stripped.endswith(stop) for stop in self.stops):
            return stripped
        return answer + str(self.tokenizer.eos_token)

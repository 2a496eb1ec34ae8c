"""Finds the end of a prompt that is enough to tokenise an answer behind it, so that each prompt is tokenised once.

Fast tokenizers cut a text at added tokens before they do anything else, and what stands between two of them knows
nothing of the rest: behind the last one of its prompt, an answer has the ids that it has behind the whole prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def find_cuts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the added tokens that the chat template writes and at which the tokenizer cuts every text."""
    if not tokenizer.is_fast or not tokenizer.chat_template or getattr(tokenizer, "split_special_tokens", False):
        return []
    added = [token for token in tokenizer.added_tokens_decoder.values() if not token.normalized]
    bare = [token.content for token in added if not (token.lstrip or token.rstrip or token.single_word)]
    written = [text for text in bare if text in str(tokenizer.chat_template) or text in _named(tokenizer)]
    return [text for text in written if not any(_overlap(text, other.content) for other in added)]


def cut_end(prompt: str, cuts: list[str]) -> str:
    """Return the prompt from its last cut on; the whole of it where it has none."""
    return prompt[max(0, *(prompt.rfind(cut) for cut in cuts)) :] if cuts else prompt


def _named(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return the tokens that templates write by name."""
    return {str(token) for token in (tokenizer.bos_token, tokenizer.eos_token) if token}


def _overlap(one: str, other: str) -> bool:
    """Tell whether an occurrence of ``one`` may share characters with a different one of ``other``."""
    if one == other:
        return any(one.startswith(one[at:]) for at in range(1, len(one)))
    if one in other or other in one:
        return True
    shortest = min(len(one), len(other))
    return any(one[-n:] == other[:n] or other[-n:] == one[:n] for n in range(1, shortest))

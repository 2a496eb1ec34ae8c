"""A model's answers to held-out prompts: greedy ones, and sampled ones beside them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from alignzoo.evaluate.generation import generate
from alignzoo.system import ranks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


R = TypeVar("R")

#: Rows answered at once for each that is scored at once: an answer keeps one position's logits, a score all.
ANSWERED = 4


@dataclass(frozen=True)
class Answer:
    """One answer: its text, its length in tokens (without the stop token), and whether it ended by itself."""

    text: str
    tokens: int
    ended: bool


def answer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    stops: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
) -> list[Answer]:
    """Return the greedy answer to each prompt (token ids), in order; prompts of like length are answered together."""

    def answered(chosen: list[int]) -> list[Answer]:
        new = generate(model, tokenizer, [prompts[i] for i in chosen], stops, max_new_tokens)
        return [_read(ids, tokenizer, stops) for ids in new]

    return in_batches(answered, _by_length(prompts), ANSWERED * batch_size)


def answer_and_sample(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    stops: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
) -> list[tuple[Answer, list[int]]]:
    """Return the greedy answer to each prompt, and the token ids of one sampled at temperature 1, its stop token too.

    Samples are the same whenever the same model is asked, and leave torch's generators as they were. Both kinds are
    generated together: prompts are read once, and the longest answers, a pass for each token, are waited for once.
    """

    def answered(chosen: list[int]) -> list[tuple[Answer, list[int]]]:
        asked, half = [prompts[i] for i in chosen], len(chosen)
        with _seeded(chosen[0]):
            new = generate(model, tokenizer, asked, stops, max_new_tokens, ways=(False, True))
        return [(_read(ids, tokenizer, stops), sample) for ids, sample in zip(new[:half], new[half:], strict=True)]

    return in_batches(answered, _by_length(prompts), ANSWERED * batch_size)


def _by_length(prompts: Sequence[list[int]]) -> list[int]:
    return sorted(range(len(prompts)), key=lambda i: len(prompts[i]))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def in_batches(work: Callable[[list[int]], list[R]], order: Sequence[int], size: int) -> list[R]:
    """Return one result for each index, by index; ``work`` takes up to ``size`` of them, in ``order``."""
    batches = [list(order[first : first + size]) for first in range(0, len(order), size)]
    found = zip(order, itertools.chain.from_iterable(ranks.share_work(work, batches)), strict=True)
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def _read(ids: list[int], tokenizer: Any, stops: Sequence[int]) -> Answer:
    ended = ids[-1] in stops
    kept = ids[:-1] if ended else ids
    return Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), len(kept), ended)

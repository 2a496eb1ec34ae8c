"""Generates a model's greedy completions of prompts, sampled ones beside them, and several samples of each prompt."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from alignzoo.evaluate.generation import generate
from alignzoo.system import ranks

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


R = TypeVar("R")

#: Rows generated at once for each that is scored at once: generation keeps one position's logits, a score all.
GENERATED_PER_SCORED = 4


@dataclass(frozen=True)
class Completion:
    """One completion: its text, its length in tokens (without EOS), and whether it ended with EOS."""

    text: str
    tokens: int
    ended: bool
    answer: str | None = None
    """Its last turn without calls, where it can have several."""

    turns: int | None = None
    """Turns with calls of tools; None where there are none to call."""

    success: bool | None = None
    """Whether the goal of the environment was reached; None without one."""

    reward: float | None = None
    """What the environment gave for it."""

    @property
    def last_turn(self) -> str:
        """What rewards read."""
        return self.text if self.answer is None else self.answer


def generate_greedy(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    eos_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
) -> list[Completion]:
    """Return the greedy completion of each prompt (token ids), in order; prompts of like length go together."""

    def generate_batch(chosen: list[int]) -> list[Completion]:
        new = generate(model, tokenizer, [prompts[i] for i in chosen], eos_ids, max_new_tokens)
        return [_decode(ids, tokenizer, eos_ids) for ids in new]

    return map_in_batches(generate_batch, order_by_length(prompts), GENERATED_PER_SCORED * batch_size)


def generate_greedy_and_sampled(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    eos_ids: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
) -> list[tuple[Completion, list[int]]]:
    """Return each prompt's greedy completion, and the token ids of one sampled at temperature 1, its EOS too.

    Samples are the same whenever the same model is asked, in whatever batches, and leave torch's generators as they
    were. Both kinds are generated together: prompts are read once, and the longest completions, a pass for each token,
    cost once.
    """
    numbers = _draw_numbers(len(prompts), max_new_tokens, seed=0)

    def generate_batch(chosen: list[int]) -> list[tuple[Completion, list[int]]]:
        batch, half = [prompts[i] for i in chosen], len(chosen)
        own = numbers[chosen].repeat(2, 1)
        new = generate(model, tokenizer, batch, eos_ids, max_new_tokens, (False, True), numbers=own)
        return [(_decode(ids, tokenizer, eos_ids), sample) for ids, sample in zip(new[:half], new[half:], strict=True)]

    return map_in_batches(generate_batch, order_by_length(prompts), GENERATED_PER_SCORED * batch_size)


def sample_batch(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    eos_ids: Sequence[int],
    max_new_tokens: int,
    samples: int,
    temperature: float,
    seed: int,
) -> list[list[Completion]]:
    """Return ``samples`` sampled completions of each prompt (token ids), all in one batch.

    They are the same for the same model, batch and ``seed``, and leave torch's generators as they were. Their texts
    keep the blanks around them.
    """
    numbers = _draw_numbers(samples * len(prompts), max_new_tokens, seed)
    new = generate(model, tokenizer, [*prompts], eos_ids, max_new_tokens, (True,) * samples, temperature, numbers)
    found = [_decode(ids, tokenizer, eos_ids, strip=False) for ids in new]
    return [found[place :: len(prompts)] for place in range(len(prompts))]


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Sample the same inside, whatever was sampled before, and leave torch's generators as they were."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _draw_numbers(rows: int, tokens: int, seed: int) -> Tensor:
    """Return the same numbers each time, (rows, tokens), without torch's own generators."""
    import torch

    return torch.rand(rows, tokens, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def order_by_length(prompts: Sequence[list[int]]) -> list[int]:
    """Return the places of the prompts (token ids), shortest first: those of like length go together."""
    return sorted(range(len(prompts)), key=lambda i: len(prompts[i]))


def map_in_batches(work: Callable[[list[int]], list[R]], order: Sequence[int], size: int) -> list[R]:
    """Return one result for each index, by index; ``work`` takes up to ``size`` of them, in ``order``."""
    batches = [list(order[first : first + size]) for first in range(0, len(order), size)]
    found = zip(order, itertools.chain.from_iterable(ranks.share_work(work, batches)), strict=True)
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def _decode(ids: list[int], tokenizer: Any, eos_ids: Sequence[int], strip: bool = True) -> Completion:
    ended = ids[-1] in eos_ids
    kept = ids[:-1] if ended else ids
    text = tokenizer.decode(kept, skip_special_tokens=True)
    return Completion(text.strip() if strip else text, len(kept), ended)

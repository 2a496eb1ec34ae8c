"""A model's greedy answers to held-out prompts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from alignzoo import ranks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


R = TypeVar("R")


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
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))

    def answered(chosen: list[int]) -> list[Answer]:
        new = generate(model, tokenizer, [prompts[i] for i in chosen], stops, max_new_tokens)
        return [_read(ids, tokenizer, stops) for ids in new]

    return in_batches(answered, order, batch_size)


def in_batches(work: Callable[[list[int]], list[R]], order: Sequence[int], size: int) -> list[R]:
    """Return one result for each index, by index; ``work`` takes up to ``size`` of them, in ``order``."""
    batches = [list(order[first : first + size]) for first in range(0, len(order), size)]
    found = zip(order, itertools.chain.from_iterable(ranks.shared(work, batches)), strict=True)
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def generate(
    model: Any, tokenizer: Any, prompts: list[list[int]], stops: Sequence[int], limit: int, sample: bool = False
) -> list[list[int]]:
    """Return new token ids for each prompt, greedy or sampled at temperature 1, in one batch."""
    import torch

    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    with torch.inference_mode():
        ids = model.generate(
            **batch,
            do_sample=sample,
            temperature=1.0 if sample else None,
            top_p=1.0 if sample else None,
            top_k=0 if sample else None,
            repetition_penalty=1.0,
            synced_gpus=False,  # each process has a whole model, and batches of its own
            use_cache=True,
            max_new_tokens=limit,
            eos_token_id=list(stops),
            pad_token_id=tokenizer.pad_token_id,
        )
    new: list[list[int]] = ids[:, batch["input_ids"].shape[1] :].tolist()
    return new


def _read(ids: list[int], tokenizer: Any, stops: Sequence[int]) -> Answer:
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    kept = ids if end is None else ids[:end]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), len(kept), end is not None)

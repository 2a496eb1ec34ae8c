"""A model's greedy answers to held-out prompts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from alignzoo import ranks

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


R = TypeVar("R")

#: Tokens after which answers that have ended leave the batch: leaving costs little, but not nothing.
STRETCH = 8

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
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))

    def answered(chosen: list[int]) -> list[Answer]:
        new = generate(model, tokenizer, [prompts[i] for i in chosen], stops, max_new_tokens)
        return [_read(ids, tokenizer, stops) for ids in new]

    return in_batches(answered, order, ANSWERED * batch_size)


def in_batches(work: Callable[[list[int]], list[R]], order: Sequence[int], size: int) -> list[R]:
    """Return one result for each index, by index; ``work`` takes up to ``size`` of them, in ``order``."""
    batches = [list(order[first : first + size]) for first in range(0, len(order), size)]
    found = zip(order, itertools.chain.from_iterable(ranks.shared(work, batches)), strict=True)
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def generate(
    model: Any, tokenizer: Any, prompts: list[list[int]], stops: Sequence[int], limit: int, sample: bool = False
) -> list[list[int]]:
    """Return new token ids for each prompt, greedy or sampled at temperature 1: ``limit``, or up to a stop token.

    The prompts are answered together, and answers that have ended leave the batch: a long one does not hold them up.
    """
    import torch
    from torch.nn import functional

    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    ids, mask, cache = batch["input_ids"], batch["attention_mask"], None
    width, rows = ids.shape[1], list(range(len(prompts)))
    answers: list[list[int]] = [[] for _ in prompts]
    while rows and ids.shape[1] < width + limit:
        more = min(STRETCH, width + limit - ids.shape[1])
        ids, cache = _continued(model, ids, mask, cache, more, stops, tokenizer.pad_token_id, sample)
        for row, new in zip(rows, ids[:, width:].tolist(), strict=True):
            answers[row] = _until_stop(new, stops)
        going = [place for place, row in enumerate(rows) if answers[row][-1] not in stops]
        rows, ids = [rows[place] for place in going], ids[going]
        mask = functional.pad(mask[going], (0, ids.shape[1] - mask.shape[1]), value=1)
        if cache is not None:
            kept = torch.tensor(going, dtype=torch.long, device=ids.device)
            cache.reorder_cache(kept)  # made for beams; here it leaves rows out
    return answers


def _continued(
    model: Any, ids: Tensor, mask: Tensor, cache: Any, more: int, stops: Sequence[int], pad: int, sample: bool
) -> tuple[Tensor, Any]:
    """Return the rows with up to ``more`` new tokens, and the cache that the next call goes on from, if any."""
    import torch

    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            do_sample=sample,
            temperature=1.0 if sample else None,
            top_p=1.0 if sample else None,
            top_k=0 if sample else None,
            repetition_penalty=1.0,
            synced_gpus=False,  # each process has a whole model, and batches of its own
            use_cache=True,
            max_new_tokens=more,
            eos_token_id=list(stops),
            pad_token_id=pad,
            return_dict_in_generate=True,
        )
    return output.sequences, getattr(output, "past_key_values", None)


def _until_stop(answer: list[int], stops: Sequence[int]) -> list[int]:
    """Cut behind the first stop token."""
    end = next((place for place, token in enumerate(answer) if token in stops), len(answer))
    return answer[: end + 1]


def _read(ids: list[int], tokenizer: Any, stops: Sequence[int]) -> Answer:
    ended = ids[-1] in stops
    kept = ids[:-1] if ended else ids
    return Answer(tokenizer.decode(kept, skip_special_tokens=True).strip(), len(kept), ended)

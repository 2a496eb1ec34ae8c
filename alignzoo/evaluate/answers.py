"""A model's greedy answers to held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    answers: list[Answer | None] = [None] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        new = generate(model, tokenizer, [prompts[i] for i in chosen], stops, max_new_tokens)
        for index, ids in zip(chosen, new, strict=True):
            answers[index] = _read(ids, tokenizer, stops)
    return [found for found in answers if found is not None]


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

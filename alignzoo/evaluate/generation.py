"""Generates answers together, greedy and sampled ones side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Tokens after which answers that have ended leave the batch: leaving costs little, but not nothing.
STRETCH = 8


def generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    stops: Sequence[int],
    limit: int,
    sampled: Sequence[bool] | None = None,
) -> list[list[int]]:
    """Return new token ids for each prompt (token ids): ``limit``, or up to a stop token, which is the last of them.

    The prompts are answered together, and answers that have ended leave the batch: a long one does not hold them up.

    Args:
        sampled: which answers are sampled, at temperature 1; the others, and all if None, are greedy.
    """
    import torch
    from torch.nn import functional

    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    ids, mask, cache = batch["input_ids"], batch["attention_mask"], None
    greedy = ~torch.tensor(sampled or [False] * len(prompts), device=ids.device)
    width, rows = ids.shape[1], list(range(len(prompts)))
    answers: list[list[int]] = [[] for _ in prompts]
    while rows and ids.shape[1] < width + limit:
        more = min(STRETCH, width + limit - ids.shape[1])
        ids, cache = _continued(model, ids, mask, cache, more, stops, tokenizer.pad_token_id, greedy[rows])
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
    model: Any, ids: Tensor, mask: Tensor, cache: Any, more: int, stops: Sequence[int], pad: int, greedy: Tensor
) -> tuple[Tensor, Any]:
    """Return the rows with up to ``more`` new tokens, and the cache that the next call goes on from, if any."""
    import torch

    sample = not bool(greedy.all())

    def surest(ids: Tensor, scores: Tensor) -> Tensor:
        """Leave the greedy rows one token to sample from."""
        best = torch.full_like(scores, -torch.inf).scatter(-1, scores.argmax(-1, keepdim=True), 0.0)
        return torch.where(greedy[:, None], best, scores)

    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            do_sample=sample,
            temperature=1.0 if sample else None,
            top_p=1.0 if sample else None,
            top_k=0 if sample else None,
            logits_processor=[surest] if sample else [],
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

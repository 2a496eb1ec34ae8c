"""Generates the completions of a batch of prompts, greedy and sampled ones side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Tokens after which completions that have ended leave the batch: leaving costs little, but not nothing.
STRETCH = 8


def generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    eos_ids: Sequence[int],
    limit: int,
    sampled: Sequence[bool] = (False,),
    temperature: float = 1.0,
) -> list[list[int]]:
    """Return new token ids for each prompt (token ids): ``limit``, or up to the first EOS, which is the last of them.

    Completions that have ended leave the batch: a long one does not hold the others up.

    Args:
        sampled: for each entry one completion per prompt, sampled where true, else greedy; those of the first entry
            come first.
        temperature: by which logits are divided before a token is sampled.
    """
    import torch
    from torch.nn import functional

    batch = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    copies = torch.arange(len(prompts), device=model.device).repeat(len(sampled))
    greedy = ~torch.tensor(sampled, device=model.device).repeat_interleave(len(prompts))
    ends = eos_ids, tokenizer.pad_token_id
    cache = _prefill(model, batch, copies, ends) if len(sampled) > 1 else None
    ids, mask = batch["input_ids"][copies], batch["attention_mask"][copies]
    width, rows = ids.shape[1], list(range(len(copies)))
    completions: list[list[int]] = [[] for _ in rows]
    while rows and ids.shape[1] < width + limit:
        more = min(STRETCH, width + limit - ids.shape[1])
        ids, cache = _extend(model, ids, mask, cache, more, ends, greedy[rows], temperature)
        for row, new in zip(rows, ids[:, width:].tolist(), strict=True):
            completions[row] = _cut_behind_eos(new, eos_ids)
        open_rows = [place for place, row in enumerate(rows) if completions[row][-1] not in eos_ids]
        rows, ids = [rows[place] for place in open_rows], ids[open_rows]
        mask = functional.pad(mask[open_rows], (0, ids.shape[1] - mask.shape[1]), value=1)
        if cache is not None:  # made to reorder beams; here rows leave
            cache.reorder_cache(torch.tensor(open_rows, dtype=torch.long, device=ids.device))
    return completions


def _prefill(model: Any, batch: Any, copies: Tensor, ends: tuple[Sequence[int], int]) -> Any:
    """Return the cache of all of the prompts but their last token, read once and then copied; None if there is none."""
    ids, mask = batch["input_ids"][:, :-1], batch["attention_mask"][:, :-1]
    if not ids.shape[1] or not bool(mask.any(-1).all()):
        return None
    _, cache = _extend(model, ids, mask, None, 1, ends, greedy=ids.new_ones(len(ids)).bool())
    if cache is not None:
        cache.reorder_cache(copies)
    return cache


def _extend(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    cache: Any,
    more: int,
    ends: tuple[Sequence[int], int],
    greedy: Tensor,
    temperature: float = 1.0,
) -> tuple[Tensor, Any]:
    """Return the rows with up to ``more`` new tokens, and the cache for the next call, if there is one."""
    import torch

    sampled_rows = (~greedy).nonzero()[:, 0]

    def draw(ids: Tensor, scores: Tensor) -> Tensor:
        """Make the token that is drawn for each sampled row the best one."""
        bounds = (scores[sampled_rows] / temperature).softmax(-1).cumsum(-1)
        tokens = torch.searchsorted(bounds, torch.rand_like(bounds[:, :1]) * bounds[:, -1:], right=True)
        return scores.index_put((sampled_rows, tokens[:, 0]), scores.new_tensor(torch.inf))

    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            do_sample=False,  # transformers draws each token from as many random numbers as the vocabulary has tokens
            temperature=None,
            top_p=None,
            top_k=None,
            logits_processor=[draw] if len(sampled_rows) else [],
            repetition_penalty=1.0,
            synced_gpus=False,  # each process has a whole model, and batches of its own
            use_cache=True,
            max_new_tokens=more,
            eos_token_id=list(ends[0]),
            pad_token_id=ends[1],
            return_dict_in_generate=True,
        )
    return output.sequences, getattr(output, "past_key_values", None)


def _cut_behind_eos(ids: list[int], eos_ids: Sequence[int]) -> list[int]:
    """Cut behind the first EOS."""
    end = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids))
    return ids[: end + 1]

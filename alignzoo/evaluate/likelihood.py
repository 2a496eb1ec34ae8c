"""Computes the log-probabilities of given completions under a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.data.padding import pad_right
from alignzoo.evaluate.completions import map_in_batches

if TYPE_CHECKING:
    import torch

CHUNK = 64  #: positions whose distributions over the vocabulary are in memory in float32 at once


def compute_logprobs(
    model: Any, pairs: Sequence[tuple[list[int], list[int]]], batch_size: int, pad: int
) -> list[float]:
    """Return the summed log-probability, in nats, of each completion given its prompt.

    Args:
        model: a causal language model, in evaluation mode.
        pairs: (prompt ids, completion ids).
        batch_size: sequences in one forward pass; those with one prompt go together, and prompts of like length.
        pad: token id to fill up with.
    """
    order = sorted(range(len(pairs)), key=lambda i: (-len(pairs[i][0]), pairs[i][0]))
    return map_in_batches(lambda chosen: _score_batch(model, [pairs[i] for i in chosen], pad), order, batch_size)


def _score_batch(model: Any, pairs: list[tuple[list[int], list[int]]], pad: int) -> list[float]:
    import torch

    ids, mask, wanted = pad_pairs(pairs, pad, model.device)
    logits, tokens = compute_logits(model, ids, mask, wanted), ids[:, 1:][wanted]
    parts = zip(torch.split(logits, CHUNK), torch.split(tokens, CHUNK), strict=True)
    found = torch.cat([torch.log_softmax(some.float(), -1).gather(-1, of[:, None])[:, 0] for some, of in parts])
    return [float(part.sum()) for part in torch.split(found, wanted.sum(1).tolist())]


def compute_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the logits of the ``wanted`` tokens, one row behind the other, (wanted tokens, vocabulary).

    Only their positions are projected on the vocabulary. ``wanted`` is (rows, width - 1): nothing predicts the first.
    """
    import torch

    places = torch.nn.functional.pad(wanted, (0, 1))
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, inputs: (inputs[0][places][None],))
    try:
        with torch.inference_mode():
            logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
    finally:
        hook.remove()
    return logits


def pad_pairs(
    pairs: list[tuple[list[int], list[int]]], pad: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask, (pairs, longest), filled up on the right, and which tokens are completions'.

    The last is (pairs, longest - 1), without the first tokens.
    """
    import torch

    ids, mask = pad_right([prompt + completion for prompt, completion in pairs], pad)
    starts = torch.tensor([[len(prompt)] for prompt, _ in pairs])
    completions = mask.bool() & (torch.arange(ids.shape[1]) >= starts)
    return ids.to(device), mask.to(device), completions[:, 1:].to(device)

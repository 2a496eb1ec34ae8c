"""Log-probabilities of given answers under a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.evaluate.answers import in_batches

if TYPE_CHECKING:
    import torch


def answer_logprobs(model: Any, pairs: Sequence[tuple[list[int], list[int]]], batch_size: int, pad: int) -> list[float]:
    """Return the summed log-probability, in nats, of each answer given its prompt.

    Args:
        model: a causal language model, in evaluation mode.
        pairs: (prompt ids, answer ids).
        batch_size: sequences in one forward pass; they are sorted by length first.
        pad: token id to fill up with.
    """
    order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
    return in_batches(lambda chosen: _batch(model, [pairs[i] for i in chosen], pad), order, batch_size)


def _batch(model: Any, pairs: list[tuple[list[int], list[int]]], pad: int) -> list[float]:
    import torch

    ids, mask, answer_mask = padded(pairs, pad, model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        values = _answer_sums(logits, ids, answer_mask)
    return [float(value) for value in values]


def padded(
    pairs: list[tuple[list[int], list[int]]], pad: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids, attention mask, and where the answers stand, each (pairs, longest), filled up on the right."""
    import torch

    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids = torch.full((len(pairs), longest), pad)
    mask = torch.zeros_like(ids)
    answer_mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(pairs):
        length = len(prompt) + len(answer)
        ids[row, :length] = torch.tensor(prompt + answer)
        mask[row, :length] = 1
        answer_mask[row, len(prompt) : length] = True
    return ids.to(device), mask.to(device), answer_mask.to(device)


def _answer_sums(logits: torch.Tensor, ids: torch.Tensor, answer_mask: torch.Tensor) -> torch.Tensor:
    """Sum log p(token | what precedes it) over each answer; row by row, so that only one row is in float32."""
    import torch

    sums = []
    for row in range(len(ids)):
        places = answer_mask[row, 1:].nonzero()[:, 0]
        log_probs = torch.log_softmax(logits[row, places].float(), -1)
        sums.append(log_probs.gather(-1, ids[row, places + 1][:, None]).sum())
    return torch.stack(sums)

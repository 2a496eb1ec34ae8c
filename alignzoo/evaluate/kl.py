"""How far a model went from the start model, on answers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from alignzoo.evaluate.answers import in_batches
from alignzoo.evaluate.likelihood import CHUNK, logits_of, padded

if TYPE_CHECKING:
    import torch


def own_sample_kl(
    model: Any, start: Any, sampled: Sequence[tuple[list[int], list[int]]], batch_size: int, pad: int
) -> list[tuple[float, int]]:
    """Return the KL to the start model over each answer, and its tokens.

    The KL, in nats, is summed over the answer's tokens, the stop token included; at each it is exact, over the whole
    vocabulary, and so has less variance than the log-ratio of the sampled token (Amini et al., 2025, "Better Estimation
    of the KL Divergence Between Language Models").

    Args:
        model: a causal language model, in evaluation mode.
        start: the start model; None: ``model`` without its adapter.
        sampled: prompt ids, and the ids of an answer that ``model`` gave at temperature 1.
        batch_size: sequences in one forward pass.
        pad: token id to fill up with.
    """
    order = sorted(range(len(sampled)), key=lambda i: sum(map(len, sampled[i])))
    return in_batches(lambda chosen: _kl(model, start, [sampled[i] for i in chosen], pad), order, batch_size)


def _kl(model: Any, start: Any, pairs: list[tuple[list[int], list[int]]], pad: int) -> list[tuple[float, int]]:
    """Return the KL over each answer, in nats, and the answer's tokens."""
    import torch

    ids, mask, wanted = padded(pairs, pad, model.device)
    logits = logits_of(model, ids, mask, wanted)
    with model.disable_adapter() if start is None else nullcontext():
        others = logits_of(model if start is None else start, ids, mask, wanted)
    parts = zip(torch.split(logits, CHUNK), torch.split(others, CHUNK), strict=True)
    values = torch.cat([_divergences(*part) for part in parts])
    lengths = wanted.sum(1).tolist()
    return [(float(part.sum()), length) for part, length in zip(torch.split(values, lengths), lengths, strict=True)]


def _divergences(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) at each position, (positions,), of logits of (positions, vocabulary)."""
    import torch

    p, q = (torch.log_softmax(part.float(), -1) for part in (logits, others))
    return (p.exp() * (p - q)).sum(-1)

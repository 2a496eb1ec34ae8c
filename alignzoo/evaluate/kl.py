"""Estimates a model's KL divergence to the start model, on its own sampled completions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from alignzoo.evaluate.completions import map_in_batches
from alignzoo.evaluate.likelihood import CHUNK, compute_logits, pad_pairs

if TYPE_CHECKING:
    import torch


class Sample(NamedTuple):
    """A completion that a model gave at temperature 1."""

    prompt_ids: list[int]
    ids: list[int]
    written: list[bool] | None = None
    """Of each of ``ids``: whether the model wrote it, and not a tool; None: all of them."""


def estimate_kl(
    model: Any, start: Any, sampled: Sequence[Sample], batch_size: int, pad: int
) -> list[tuple[float, int]]:
    """Return the KL to the start model over each completion, and its tokens that the model wrote.

    The KL, in nats, is summed over the completion's tokens, EOS included; at each it is exact, over the whole
    vocabulary, and so has less variance than the log-ratio of the sampled token (Amini et al., 2025, "Better Estimation
    of the KL Divergence Between Language Models").

    Args:
        model: a causal language model, in evaluation mode.
        start: the start model; None: ``model`` without its adapter.
        sampled: completions of ``model``.
        batch_size: sequences in one forward pass.
        pad: token id to fill up with.
    """
    order = sorted(range(len(sampled)), key=lambda i: len(sampled[i].prompt_ids) + len(sampled[i].ids))
    return map_in_batches(lambda chosen: _sum_batch(model, start, [sampled[i] for i in chosen], pad), order, batch_size)


def _sum_batch(model: Any, start: Any, samples: list[Sample], pad: int) -> list[tuple[float, int]]:
    """Return the KL over each completion, in nats, and its tokens."""
    import torch

    ids, mask, wanted = pad_pairs([(sample.prompt_ids, sample.ids) for sample in samples], pad, model.device)
    for row, sample in enumerate(samples):
        if sample.written is not None:  # else all of the completion is wanted
            first = len(sample.prompt_ids) - 1
            wanted[row, first : first + len(sample.ids)] = wanted.new_tensor(sample.written)
    logits = compute_logits(model, ids, mask, wanted)
    with model.disable_adapter() if start is None else nullcontext():
        others = compute_logits(model if start is None else start, ids, mask, wanted)
    parts = zip(torch.split(logits, CHUNK), torch.split(others, CHUNK), strict=True)
    values = torch.cat([_compute_divergences(*part) for part in parts])
    lengths = wanted.sum(1).tolist()
    return [(float(part.sum()), length) for part, length in zip(torch.split(values, lengths), lengths, strict=True)]


def _compute_divergences(logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) at each position, (positions,), of logits of (positions, vocabulary)."""
    import torch

    p, q = (torch.log_softmax(part.float(), -1) for part in (logits, others))
    return (p.exp() * (p - q)).sum(-1)

"""How far a model went from the start model, on answers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from alignzoo.evaluate.answers import ANSWERED, generate, in_batches
from alignzoo.evaluate.likelihood import CHUNK, logits_of, padded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def own_sample_kl(
    model: Any,
    start: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    stops: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
) -> list[tuple[float, int]]:
    """Sample an answer to each prompt (ids) at temperature 1, and return its KL to the start model and its tokens.

    The KL, in nats, is summed over the answer's tokens, the stop token included; at each it is exact, over the whole
    vocabulary, and so has less variance than the log-ratio of the sampled token (Amini et al., 2025, "Better Estimation
    of the KL Divergence Between Language Models"). ``start`` None: the model without its adapter.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))

    def measured(chosen: list[int]) -> list[tuple[float, int]]:
        asked = [prompts[i] for i in chosen]
        with _seeded(chosen[0]):
            answers = generate(model, tokenizer, asked, stops, max_new_tokens, sample=True)
        pairs = list(zip(asked, answers, strict=True))
        parts = (pairs[first : first + batch_size] for first in range(0, len(pairs), batch_size))
        return [found for part in parts for found in _kl(model, start, part, int(tokenizer.pad_token_id))]

    return in_batches(measured, order, ANSWERED * batch_size)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Sample the same answers whenever the same model is measured, and leave torch's generators as they were."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


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

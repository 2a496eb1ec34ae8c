"""How far a model went from the start model, on answers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from alignzoo.evaluate.answers import generate, in_batches
from alignzoo.evaluate.likelihood import padded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

CHUNK = 64  #: positions whose distributions over the vocabulary are in memory at once


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
        return _kl(model, start, asked, [_until_stop(a, stops) for a in answers], int(tokenizer.pad_token_id))

    return in_batches(measured, order, batch_size)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Sample the same answers whenever the same model is measured, and leave torch's generators as they were."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _until_stop(answer: list[int], stops: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(answer) if token in stops), len(answer))
    return answer[: end + 1]


def _kl(
    model: Any, start: Any, prompts: list[list[int]], answers: list[list[int]], pad: int
) -> list[tuple[float, int]]:
    import torch

    ids, mask, places = padded(list(zip(prompts, answers, strict=True)), pad, model.device)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        with model.disable_adapter() if start is None else nullcontext():
            others = (model if start is None else start)(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return [(_row_kl(*row), int(row[2].sum())) for row in zip(logits, others, places, strict=True)]


def _row_kl(logits: torch.Tensor, others: torch.Tensor, places: torch.Tensor) -> float:
    """Sum KL(p || q) over the positions that predict the answer's tokens."""
    import torch

    total = 0.0
    for positions in torch.split(places[1:].nonzero()[:, 0], CHUNK):
        p, q = (torch.log_softmax(part[positions].float(), -1) for part in (logits, others))
        total += float((p.exp() * (p - q)).sum())
    return total

"""Computes the last layer and the loss as TRL does, for the memory that the logits take."""

from __future__ import annotations

from typing import Any

import torch

TILE = 4096, 32768  #: tokens and vocabulary entries of a tile of logits (trl.kernels.chunked_logprob in TRL 1.16)


def compute_chunked_loss(core: Any, flat: torch.Tensor, device: str) -> torch.Tensor:
    """Return a loss of per-token log-probabilities as TRL's fused head computes them: a tile of logits at a time.

    ``core``: the model without its adapter's wrapper; ``flat``: the hidden states to score, (positions, width). TRL's
    kernel works inside the tile on a GPU; on other devices its PyTorch version makes several more tiles on the way.
    """
    from trl.kernels import ChunkedLogProbFunction

    head, labels = core.get_output_embeddings(), torch.zeros(len(flat), dtype=torch.long)
    if device == "cuda":
        loss: torch.Tensor = InTiles.apply(flat, head.weight)  # type: ignore[no-untyped-call]
        return loss
    softcap = getattr(core.config.get_text_config(), "final_logit_softcapping", None)
    outputs = "entropy", "mean_logits", "is_top1"
    scores = ChunkedLogProbFunction.apply(flat, head.weight, head.bias, labels, 1.0, TILE[1], softcap, 1.0, outputs)
    log_probs: torch.Tensor = scores[0]
    return log_probs.sum()


def compute_divergence_loss(
    core: Any, flat: torch.Tensor, teacher: Any, taught: torch.Tensor, device: str
) -> torch.Tensor:
    """Return a divergence from a teacher as TRL computes it: a tile of both models' logits at a time.

    ``core`` and ``teacher``: the models; ``flat`` and ``taught``: their hidden states, (positions, width) each.
    """
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    head, other = core.get_output_embeddings(), teacher.get_output_embeddings()
    if device == "cuda":
        beside = _make_tile(taught, other.weight, taught.dtype)
        loss: torch.Tensor = InTiles.apply(flat, head.weight) + 0 * beside.sum()  # type: ignore[no-untyped-call]
        return loss
    found = ChunkedDivergenceFunction.apply(flat, head.weight, head.bias, taught, other.weight, other.bias, 1.0)
    divergence: torch.Tensor = found[0]
    return divergence.sum()


class InTiles(torch.autograd.Function):
    """Makes the buffers that TRL's Triton kernel works in: a tile, and gradients in float32."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return a scalar; ``hidden`` (tokens, width), ``weight`` (vocabulary, width)."""
        ctx.save_for_backward(hidden, weight)
        ctx.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        return _make_tile(hidden, weight, ctx.dtype).sum().float()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return gradients of the right size, for those that need one."""
        hidden, weight = ctx.saved_tensors
        grads = [
            torch.zeros(tensor.shape, dtype=torch.float32) if needed else None
            for tensor, needed in zip((hidden, weight), ctx.needs_input_grad, strict=True)
        ]
        _make_tile(hidden, weight, ctx.dtype)
        of_hidden, of_weight = grads
        return (
            None if of_hidden is None else of_hidden.to(hidden.dtype),
            None if of_weight is None else of_weight.to(weight.dtype),
        )


def _make_tile(hidden: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return one tile of logits, without computing it, and make the part of the weights that it takes."""
    tile = torch.empty((min(len(hidden), TILE[0]), TILE[1]), dtype=dtype)
    chunk = weight[: TILE[1]].to(dtype)
    return tile[:, : len(chunk)]


def compute_full_loss(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return a loss of all logits at once, as TRL's ORPO and CPO trainers compute it.

    The likelihood of the first half of the sequences (the chosen) and the log-probability of each token of all.
    """
    from torch.nn.functional import cross_entropy

    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    chosen = (len(ids) + 1) // 2
    shifted = logits[:chosen, :-1].contiguous()
    likelihood = cross_entropy(shifted.view(-1, shifted.size(-1)), ids[:chosen, 1:].reshape(-1))
    return likelihood + _compute_log_probs(logits[:, :-1], ids[:, 1:]).sum()


def _compute_log_probs(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each id as ``trl.trainer.utils.selective_log_softmax`` does, row by row."""
    picked = torch.gather(logits, -1, ids.unsqueeze(-1)).squeeze(-1)
    if logits.dtype is torch.float32:
        return picked - torch.stack([torch.logsumexp(row, dim=-1) for row in logits])
    rows = [torch.log_softmax(row, -1) for row in logits]
    return torch.gather(torch.stack(rows), -1, ids.unsqueeze(-1))

"""Runs the passes of a run over a skeleton, and counts live bytes and operations of each."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from alignzoo.models.shared_prefix import attention
from alignzoo.models.shared_prefix.patch import make_inputs
from alignzoo.models.shared_prefix.tree import Bin, Node
from alignzoo.plan.live_bytes import LiveBytes
from alignzoo.plan.loss_memory import compute_chunked_loss, compute_divergence_loss, compute_full_loss
from alignzoo.plan.skeleton import Skeleton


@dataclass(frozen=True)
class Size:
    """Sequences that go through the model at once, and the tokens of the longest, to which the others are padded."""

    sequences: int
    tokens: int

    packed: int | None = None
    """Tokens that go through the backbone, in one row without padding; None: all sequences, padded."""

    scored: int | None = None
    """Positions that the head takes, those with a label; None: all."""

    @property
    def positions(self) -> int:
        """All tokens, padding included."""
        return self.sequences * self.tokens

    @property
    def labels(self) -> int:
        """Positions that the head takes."""
        return self.positions - self.sequences if self.scored is None else self.scored

    def __str__(self) -> str:
        packed = f", packed into {self.packed:,}" if self.packed is not None else ""
        return f"{self.sequences:,} sequences of {self.tokens:,} tokens{packed}"


@dataclass(frozen=True)
class Settings:
    """How the passes of a run are made."""

    device: str
    """``cpu``, ``cuda`` or ``mps``."""

    precision: str
    """``fp32``, ``bf16`` or ``fp16``."""

    checkpointing: bool
    """Activations are recomputed in the backward pass."""

    whole_logits: bool
    """All logits of a batch are in memory at once."""

    accumulates: bool
    """Gradients of several batches are added up before an optimizer step."""

    classifies: bool = False
    """The model gives each sequence a score: a reward model."""

    taught: bool = False
    """The loss compares with a teacher."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which products are computed in 16 bits, where the precision says so."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast("cpu", torch.bfloat16)  # fp16 is as large


def run_training_pass(skeleton: Skeleton, size: Size, settings: Settings, teacher: Skeleton | None = None) -> LiveBytes:
    """Take one batch forward and backward; where gradients accumulate a second one, onto those of the first."""
    model, loss = skeleton.model.train(), None
    if settings.checkpointing:
        _switch_checkpointing(skeleton.core, "enable")
    with skeleton.mode, LiveBytes(model) as live:
        hook = skeleton.core.base_model.register_forward_hook(live.mark)
        ids, mask = _make_batch(size)
        for _ in range(2 if settings.accumulates else 1):
            with settings.autocast():
                loss = _compute_loss(skeleton, ids, mask, size, settings, teacher)
            loss.backward()  # type: ignore[no-untyped-call]
            del loss
    hook.remove()
    for weight in model.parameters():
        weight.grad = None
    if settings.checkpointing:
        _switch_checkpointing(skeleton.core, "disable")
    live.flops = live.flops // (2 if settings.accumulates else 1) + _count_kernel_flops(skeleton, size, settings)
    return live


def _compute_loss(
    skeleton: Skeleton,
    ids: torch.Tensor,
    mask: torch.Tensor,
    size: Size,
    settings: Settings,
    teacher: Skeleton | None,
) -> torch.Tensor:
    """Return the loss of a batch, as the method's trainer makes it."""
    if settings.classifies:
        scores: torch.Tensor = skeleton.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return scores.sum()
    if settings.whole_logits:
        return compute_full_loss(skeleton.model, ids, mask)
    hidden = _compute_hidden(skeleton.core, ids, mask, size)
    if settings.taught and teacher is not None:
        with torch.no_grad():
            taught = _compute_hidden(teacher.core, ids, mask, size)
        return compute_divergence_loss(skeleton.core, hidden, teacher.core, taught, settings.device)
    return compute_chunked_loss(skeleton.core, hidden, settings.device)


def _compute_hidden(core: Any, ids: torch.Tensor, mask: torch.Tensor, size: Size) -> torch.Tensor:
    """Return the hidden states that the head takes, (positions, width): of the packed row, laid out as the batch."""
    if size.packed is None:
        hidden = core.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    else:
        attention.register()
        packed = core.base_model(**make_inputs(ids, lay_out(size))).last_hidden_state[0]
        hidden = torch.nn.functional.embedding(torch.zeros_like(ids), packed)
    shifted: torch.Tensor = hidden[:, :-1].reshape(-1, hidden.size(-1))
    if size.scored is None:
        return shifted
    return shifted[torch.zeros(size.labels, dtype=torch.long)]


def lay_out(size: Size) -> Bin:
    """Return a packed row of pairs of average lengths, each with its prompt once, so that keys are not repeated."""
    tokens, labels = size.packed or 0, min(size.labels, size.packed or 0)
    nodes: list[Node] = []
    for start, end in itertools.pairwise(np.linspace(0, tokens, max(1, size.sequences // 2) + 1).astype(int).tolist()):
        stop = start + (end - start) * (tokens - labels) // tokens
        half = (stop + end) // 2
        nodes += [Node(start, stop, end), Node(stop, half, half), Node(half, end, end)]
    return Bin(np.arange(tokens), [node for node in nodes if node.start < node.stop])


def _switch_checkpointing(core: Any, to: str) -> None:
    """Turn it on or off under the name that transformers has for it since 5.23, or the one before."""
    (getattr(core, f"activation_checkpointing_{to}", None) or getattr(core, f"gradient_checkpointing_{to}"))()


def _count_kernel_flops(skeleton: Skeleton, size: Size, settings: Settings) -> int:
    """Return the operations of TRL's kernel on a GPU, of which the skeleton makes only the buffers.

    The logits twice, and the gradients of hidden states and, where they train, of the weights.
    """
    if settings.device != "cuda" or settings.whole_logits or settings.classifies:
        return 0
    head = skeleton.head
    return (8 if head.requires_grad else 6) * size.labels * int(head.numel())


def run_scoring_pass(skeleton: Skeleton, size: Size, settings: Settings, chunked: bool) -> LiveBytes:
    """Take one batch forward without gradients: all logits, or in the chunks of TRL's fused head."""
    model = skeleton.model.eval()
    with skeleton.mode, torch.no_grad(), LiveBytes() as live:
        ids, mask = _make_batch(size)
        if chunked:
            with settings.autocast():
                compute_chunked_loss(skeleton.core, _compute_hidden(skeleton.core, ids, mask, size), settings.device)
        elif settings.classifies:
            model(input_ids=ids, attention_mask=mask, use_cache=False)
        else:
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            log_probs = torch.log_softmax(logits[0].float(), -1)  # row by row, so of one row in float32
            del logits, log_probs
    return live


def run_sampling_pass(skeleton: Skeleton, size: Size, prompt: int) -> LiveBytes:
    """Read prompts of ``prompt`` tokens and sample up to ``size.tokens`` in all, with keys and values in a cache.

    The cache is asked for: the config of a model that TRL trained and saved says that there is none.
    """
    model, keep = skeleton.model.eval(), {"use_cache": True, "logits_to_keep": 1}
    with skeleton.mode, torch.no_grad(), LiveBytes() as live:
        ids, mask = _make_batch(size)
        cache = model(input_ids=ids[:, :prompt], attention_mask=mask[:, :prompt], **keep).past_key_values
        with live.ignore_peak():  # all tokens but the last at once, only to fill the cache
            part = ids[:, prompt : size.tokens - 1]
            if part.shape[1]:
                model(input_ids=part, attention_mask=mask[:, :-1], past_key_values=cache, **keep)
        logits = model(input_ids=ids[:, -1:], attention_mask=mask, past_key_values=cache, **keep).logits
        del cache, logits
    return live


def _make_batch(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and attention mask. Must be called in the skeleton's mode."""
    ids = torch.zeros((size.sequences, size.tokens), dtype=torch.long)
    return ids, torch.ones_like(ids)

"""Decides whether a model takes packed trees: by its config, and by a trial in which nothing may change."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from alignzoo.models.shared_prefix.attention import IMPLEMENTATION, KERNELS

#: Largest difference of a hidden state, over the largest hidden state: float32 keeps seven digits, bfloat16 three.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
LOW_PRECISION = 0.05

#: The same of gradients: SmolLM2-135M's differ by up to 0.042 in bfloat16, on a CPU.
GRADIENTS = 2 * LOW_PRECISION

#: Layers whose attention is a mask over all tokens before; a window is looked at with each batch.
LAYER_TYPES = {"full_attention", "sliding_attention"}


TRIAL_WIDTH = 48  #: columns of the trial


def reason_against(model: Any) -> str | None:
    """Return why ``model`` cannot run on packed rows, from its config, or None."""
    config = model.config
    device = next(model.parameters()).device.type
    kinds = set(getattr(config, "layer_types", None) or ()) - LAYER_TYPES
    implementation = getattr(config, "_attn_implementation", None)
    dropout = [getattr(config, name, 0) for name in ("attention_dropout", "attn_pdrop")]
    window = getattr(config, "sliding_window", None)
    reasons = {
        "the model is an encoder and a decoder": getattr(config, "is_encoder_decoder", False),
        "the model takes more than text": config.get_text_config() is not config,
        f"the model has layers of {', '.join(sorted(kinds))}": kinds,
        f"the model runs on model.attn_implementation={implementation}": implementation != IMPLEMENTATION,
        "the model drops out parts of its attention": any(dropout),
        f"the model attends to no more than {window} tokens": window and window < TRIAL_WIDTH,
        f"there are no attention kernels for it on {device}": device not in KERNELS,
        "its forward pass is another library's": "forward" in backbone_of(model).__dict__,
        "the model has no backbone of its own": backbone_of(model) is model,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def backbone_of(model: Any) -> Any:
    """Return what a causal language model, or the one under an adapter, projects the hidden states of."""
    return getattr(model, "get_base_model", lambda: model)().base_model


@dataclass(frozen=True)
class Trial:
    """A backbone that packs, and what else the outcome of a trial depends on."""

    facts: tuple[Any, ...]
    """The backbone's class, config, dtype and device."""

    backbone: weakref.ref[Any] = field(compare=False)

    autocast: torch.dtype | None = None
    """In which precision a float32 model computes."""

    gradients: bool = False
    """Whether they are compared too."""


def make_trial(backbone: Any, autocast: torch.dtype | None = None, gradients: bool = False) -> Trial:
    """Return the trial of a backbone; equal ones are made once."""
    weight = next(backbone.parameters())
    facts = type(backbone), backbone.config.to_json_string(), weight.dtype, weight.device.type
    return Trial(facts, weakref.ref(backbone), autocast, gradients)


@dataclass(frozen=True)
class Finding:
    """What a trial has shown."""

    reason: str | None
    """What is wrong, or None."""

    difference: float = 0.0
    """The largest difference of a hidden state or gradient, over the largest one."""


def find_mismatch(trial: Trial) -> str | None:
    """Return what is wrong with a packing backbone, or None."""
    return examine(trial).reason


@functools.cache
def examine(trial: Trial) -> Finding:
    """Try whether a packing backbone computes what its class's own forward pass does."""
    backbone: Any = trial.backbone()
    weight = next(backbone.parameters())
    kind = weight.device.type
    cast = torch.autocast(kind, dtype=trial.autocast, enabled=trial.autocast is not None, cache_enabled=False)
    training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(trial.gradients), cast:
            packed = _compute(backbone, backbone, trial.gradients)
            dense = _compute(functools.partial(type(backbone).forward, backbone), backbone, trial.gradients)
    except Exception as error:  # a family that takes no such arguments, in whichever way it says so
        return Finding(f"the model does not run on packed rows ({type(error).__name__})")
    finally:
        backbone.train(training)
    dtype = trial.autocast or dense["hidden states"].dtype
    low = {"hidden states": LOW_PRECISION, "gradients": GRADIENTS}
    largest = 0.0
    for name, exact in dense.items():
        difference = float((packed[name] - exact).abs().max() / exact.abs().max())
        if not difference <= TOLERANCE.get(dtype, low[name]):  # a NaN too
            return Finding(f"the model's {name} differ by {difference:.1e} on packed rows")
        largest = max(largest, difference)
    return Finding(None, largest)


def _compute(forward: Callable[..., Any], backbone: Any, gradients: bool) -> dict[str, Tensor]:
    """Return the hidden states of the trial's tokens and, if wanted, the gradients of what each word is embedded as."""
    ids, mask = _make_trial_batch(backbone.config.vocab_size)
    device = next(backbone.parameters()).device
    inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device), "use_cache": False}
    if not gradients:
        return {"hidden states": forward(**inputs).last_hidden_state[mask.bool()]}
    words = torch.unique(inputs["input_ids"])
    moved = torch.zeros(len(words), backbone.config.hidden_size, device=device, requires_grad=True)

    def move(embeddings: Any, given: tuple[Tensor], output: Tensor) -> Tensor:
        return output + moved[torch.searchsorted(words, given[0])].to(output.dtype)

    hook = backbone.get_input_embeddings().register_forward_hook(move)
    try:
        states: Tensor = forward(**inputs).last_hidden_state[mask.bool()]
    finally:
        hook.remove()
    slope = torch.randn(states.shape, generator=torch.Generator().manual_seed(0)).to(device)
    return {
        "hidden states": states.detach(),
        "gradients": torch.autograd.grad((states.float() * slope).sum(), moved)[0],
    }


def _make_trial_batch(vocabulary: int) -> tuple[Tensor, Tensor]:
    """Return rows that share a prefix, share a longer one, and share nothing; one of them padded on the left."""
    dice = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (5, TRIAL_WIDTH), generator=dice)
    ids[1:4, :20] = ids[0, :20]
    ids[2:4, 20:38] = ids[1, 20:38]
    mask = torch.ones_like(ids)
    for row, length in enumerate((30, TRIAL_WIDTH, 44, 38)):
        mask[row, length:] = 0
    mask[4, :9] = 0
    return ids, mask

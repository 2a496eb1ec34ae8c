"""Decides whether a model takes packed trees: by its config, and by a trial in which nothing may change."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from alignzoo.models.shared_prefix.attention import IMPLEMENTATION

#: Largest difference of a hidden state, over the largest hidden state: float32 keeps seven digits, bfloat16 three.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
LOW_PRECISION = 0.05

#: Layers whose attention is a mask over all tokens before; a window is looked at with each batch.
LAYER_TYPES = {"full_attention", "sliding_attention"}


TRIAL_WIDTH = 48  #: columns of the trial


def reason_against(model: Any, measured_only: bool) -> str | None:
    """Return why ``model`` cannot run on packed rows, from its config, or None; ``measured_only``: on a CPU alone."""
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
        f"there are no attention kernels for it on {device}": device not in ("cpu", "cuda"),
        f"its speed was not measured on {device} (speed.shared_prefix=on tries)": measured_only and device != "cpu",
        "its forward pass is another library's": "forward" in backbone_of(model).__dict__,
        "the model has no backbone of its own": backbone_of(model) is model,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def backbone_of(model: Any) -> Any:
    """Return what a causal language model, or the one under an adapter, projects the hidden states of."""
    return getattr(model, "get_base_model", lambda: model)().base_model


def mismatch(backbone: Any) -> str | None:
    """Return what is wrong with a packing backbone: it must give the states of its class's own forward pass."""
    ids, mask = _make_trial_batch(backbone.config.vocab_size)
    weight = next(backbone.parameters())
    inputs = {"input_ids": ids.to(weight.device), "attention_mask": mask.to(weight.device), "use_cache": False}
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            packed = backbone(**inputs).last_hidden_state[mask.bool()]
            dense = type(backbone).forward(backbone, **inputs).last_hidden_state[mask.bool()]
    except Exception as error:  # a family that takes no such arguments, in whichever way it says so
        return f"the model does not run on packed rows ({type(error).__name__})"
    finally:
        backbone.train(training)
    difference = float((packed - dense).abs().max() / dense.abs().max())
    if not difference <= TOLERANCE.get(dense.dtype, LOW_PRECISION):  # a NaN too
        return f"the model's hidden states differ by {difference:.1e} on packed rows"
    return None


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

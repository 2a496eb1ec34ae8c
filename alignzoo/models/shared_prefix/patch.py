"""Sends a backbone's batches through it as packed trees: padded rows in, the same rows of hidden states out.

TRL's losses call the causal language model, which calls the backbone and then projects. Whatever wraps the model around
that (adapters, DDP, FSDP2, checkpointing of its layers) stays as it is, and so does the loss.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from alignzoo.models.shared_prefix import attention, first_batch, head
from alignzoo.models.shared_prefix.choice import Chooser
from alignzoo.models.shared_prefix.first_batch import PackingSettings, is_sharded, takes_trees
from alignzoo.models.shared_prefix.supported import backbone_of, find_mismatch, make_trial, reason_against
from alignzoo.models.shared_prefix.tree import Bin, Packing, pack
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

#: With `auto`, a batch is packed where that leaves at most this share of its padded positions.
PAYS = 0.97

#: The models that share within :func:`sharing_ends`.
_models: ContextVar[list[Any] | None] = ContextVar("_models", default=None)


def share_prefixes(cfg: DictConfig, *models: Any) -> None:
    """Pack the batches that TRL sends through these models, as ``speed.shared_prefix`` says; None is passed over.

    Raises:
        UserError: ``speed.shared_prefix=on``, and a model cannot take packed rows.
    """
    choice = cfg.speed.shared_prefix
    if choice == "off":
        head.score_all()  # a run before this one may have ended early
        return
    for model in models:
        if model is None or hasattr(backbone_of(model), "packing"):
            continue
        reason = reason_against(model) or _try_packing(model, cfg)
        if reason and choice == "on":
            raise UserError(f"speed.shared_prefix=on: {reason}. Use speed.shared_prefix=auto.")
        head.score_labels_only()
        if reason:
            log.info("prompts shared by a batch's rows are computed for each row: %s.", reason)
        else:
            within_block = _models.get()
            if within_block is not None:
                within_block.append(model)


def choose_by_time(model: Any, chooser: Chooser) -> None:
    """Let the batches of a training decide whether they share; for a model that shares with `auto`, else nothing."""
    settings: PackingSettings | None = getattr(backbone_of(model), "packing", None)
    if settings is not None and not settings.required:
        settings.chooser = chooser


@contextmanager
def prefixes_shared(cfg: DictConfig, model: Any) -> Iterator[None]:
    """Pack what goes through ``model`` within the block; None, and what is packed already, is passed over."""
    fresh = None if model is None or hasattr(backbone_of(model), "packing") else model
    token = _models.set(None)
    try:
        share_prefixes(cfg, fresh)
        yield
    finally:
        _models.reset(token)
        stop_sharing(fresh)
        if _models.get():  # the training around this block shares on
            head.score_labels_only()


@contextmanager
def sharing_ends() -> Iterator[None]:
    """Stop sharing in every model when the block is left, also by an error."""
    models: list[Any] = []
    token = _models.set(models)
    try:
        yield
    finally:
        _models.reset(token)
        stop_sharing(*models)


def stop_sharing(*models: Any) -> None:
    """Let these models run as they did before :func:`share_prefixes`; None is passed over."""
    head.score_all()
    for model in models:
        if model is not None and hasattr(backbone_of(model), "packing"):
            del backbone_of(model).forward, backbone_of(model).packing


def _try_packing(model: Any, cfg: DictConfig) -> str | None:
    """Start packing; stop again and return why, where a few tokens come out differently. A GPU tries a batch later."""
    attention.register()
    backbone = backbone_of(model)
    backbone.packing = PackingSettings(cfg.speed.bin_tokens, required=cfg.speed.shared_prefix == "on")
    # patch: transformers PreTrainedModel.forward
    backbone.forward = MethodType(_forward, backbone)
    if next(backbone.parameters()).device.type not in first_batch.TRIED_BEFORE:
        return None
    with backbone.packing.trying(backbone):
        reason = find_mismatch(make_trial(backbone))
    if reason:
        del backbone.forward, backbone.packing
    return reason


def _forward(self: Any, *args: Any, **inputs: Any) -> Any:
    """Replaces a backbone's forward pass; the class's own runs each bin, or the batch as it came."""
    packing = None if args else _choose_packing(self, inputs)
    if packing is None:
        return type(self).forward(self, *args, **inputs)
    from transformers.modeling_outputs import BaseModelOutputWithPast

    ids = inputs["input_ids"]
    hidden = torch.cat([_run_bin(self, ids, packed) for packed in packing.bins])
    places = torch.from_numpy(packing.places).to(ids.device)
    # A gather whose backward pass adds up rows in parallel on a CPU; that of hidden[places] goes one by one.
    return BaseModelOutputWithPast(last_hidden_state=functional.embedding(places, hidden))


def _run_bin(backbone: Any, ids: Tensor, packed: Bin) -> Tensor:
    """Return the hidden states of a bin, (tokens, size)."""
    hidden: Tensor = type(backbone).forward(backbone, **make_inputs(ids, packed)).last_hidden_state[0]
    return hidden


def make_inputs(ids: Tensor, packed: Bin) -> dict[str, Any]:
    """Return what a backbone's own forward pass takes for a bin of the padded rows ``ids``."""
    source = torch.from_numpy(packed.source).to(ids.device)
    return {
        "input_ids": ids.reshape(-1)[source][None],
        "attention_mask": ids.new_ones((1, 1, 1, 1), dtype=torch.bool),  # of four dimensions: no mask is made of it
        "position_ids": (source % ids.shape[1])[None],  # TRL's own: columns of the padded rows
        "use_cache": False,
        "trees": attention.Trees(packed.nodes, ids.device),
    }


def _choose_packing(backbone: Any, inputs: dict[str, Any]) -> Packing | None:
    """Return how to pack a batch, or None where it asks for more than hidden states, or packing would not pay."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    more = {name for name, value in inputs.items() if value is not None and value is not False}
    if inputs.get("use_cache") is not False or more - {"input_ids", "attention_mask", "return_dict"}:
        return None
    if ids is None or mask is None or mask.dim() != 2:
        return None
    settings: PackingSettings = backbone.packing
    if not takes_trees(backbone, settings, ids.device):
        return None
    real = mask.bool().cpu().numpy()
    if _exceeds_window(backbone, settings, int(real.sum(1).max())):
        return None
    packing = pack(ids.cpu().numpy(), real, budget=_choose_budget(backbone, settings))
    if packing is None or not (settings.always or packing.tokens <= PAYS * ids.numel()):
        return None
    if settings.always or settings.chooser is None:
        return packing
    proven = ids.device.type in first_batch.TRIED_BEFORE
    return packing if settings.chooser.shares(backbone, inputs, packing.tokens, otherwise=proven) else None


def _exceeds_window(backbone: Any, settings: PackingSettings, longest: int) -> bool:
    """Tell whether a sliding window would hide tokens of a row: a tree's attention has no such window."""
    window: int = getattr(backbone.config, "sliding_window", None) or 0
    kinds = getattr(backbone.config, "layer_types", None)
    too_long = 0 < window < longest and (kinds is None or "sliding_attention" in kinds)
    if too_long and not settings.warned:
        settings.warned = True
        log.info("rows of %d tokens are computed one by one: the model attends to the last %d only.", longest, window)
    return too_long


def _choose_budget(backbone: Any, settings: PackingSettings) -> int:
    """Sharded weights are gathered layer by layer by all processes at once: each must go through equally often."""
    return 2**62 if is_sharded(backbone) else settings.budget

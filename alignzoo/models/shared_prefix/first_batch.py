"""Decides at a model's first batch whether a GPU computes packed rows: equality is tried there, as the run computes.

Before training the weights are still on a CPU, and the precision is that of what wraps the model later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from alignzoo.models.shared_prefix.attention import KERNELS
from alignzoo.models.shared_prefix.choice import Chooser
from alignzoo.models.shared_prefix.supported import find_mismatch, make_trial
from alignzoo.system.errors import UserError

log = logging.getLogger(__name__)

#: Devices on which the trial before training says all.
TRIED_BEFORE = {"cpu"}

#: Devices on which nobody has run it yet: a training tries it there, and what is only measured where it is asked for.
NEVER_RUN = {"cuda"}

#: What flash attention takes on a GPU.
PRECISIONS = (torch.bfloat16, torch.float16)


class PackingSettings:
    """What a backbone keeps beside its weights.

    Args:
        budget: tokens that go through the model at once.
        required: pack whatever a batch gains, and fail where rows cannot be packed.
    """

    def __init__(self, budget: int, required: bool) -> None:
        self.budget, self.always, self.required = budget, required, required
        self.warned = False  # that rows are too long for a sliding window
        self.chooser: Chooser | None = None  # of a model that trains, with `auto`
        self.decided: dict[tuple[torch.device, torch.dtype | None], bool] = {}  # by device and autocast

    @contextmanager
    def trying(self, backbone: Any) -> Iterator[None]:
        """Pack within the block whatever a batch gains; a trainer's hooks on the backbone do not see the trial."""
        hooks = {name: getattr(backbone, name) for name in ("_forward_hooks", "_forward_pre_hooks")}
        self.always = True
        try:
            for name, found in hooks.items():
                setattr(backbone, name, type(found)())
            yield
        finally:
            self.always = self.required
            for name, found in hooks.items():
                setattr(backbone, name, found)


def takes_trees(backbone: Any, settings: PackingSettings, device: torch.device) -> bool:
    """Return whether packed rows are computed on a device in the precision of now; the first time, try and tell.

    Raises:
        UserError: packing is required, and what comes out differs.
    """
    if device.type in TRIED_BEFORE:
        return True
    autocast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    if (device, autocast) not in settings.decided:
        settings.decided[device, autocast] = True  # for the trial's own batch
        reason = _find_unusual(backbone, device, autocast)
        if reason is None and device.type in NEVER_RUN and not settings.required and settings.chooser is None:
            reason = f"it was never run on {device.type}; speed.shared_prefix=on tries it"
        if reason is None and not (settings.required and is_sharded(backbone)):
            reason = _try(backbone, settings, autocast)
        settings.decided[device, autocast] = reason is None
        if reason:
            log.info("prompts shared by a batch's rows are computed for each row: %s.", reason)
        elif settings.chooser is None:  # which tells more
            log.info("prompts shared by a batch's rows are computed once on %s.", device.type)
    return settings.decided[device, autocast]


def _find_unusual(backbone: Any, device: torch.device, autocast: torch.dtype | None) -> str | None:
    """Return why there is nothing to try, or None."""
    dtype = autocast or next(backbone.parameters()).dtype
    name = str(dtype).removeprefix("torch.")
    if device.type not in KERNELS or torch.version.hip:
        return f"there are no attention kernels for it on {'ROCm' if torch.version.hip else device.type}"
    if dtype not in PRECISIONS:
        return f"flash attention computes in bfloat16 or float16 on {device.type}, not in {name}"
    return None


def _try(backbone: Any, settings: PackingSettings, autocast: torch.dtype | None) -> str | None:
    """Return what is wrong with packed rows, or None."""
    if is_sharded(backbone):  # the trial's passes would gather and reduce, and other processes may have no part in them
        return "equality cannot be tried while processes hold a share of each weight"
    with settings.trying(backbone):
        reason = find_mismatch(make_trial(backbone, autocast, gradients=True))
    if reason and settings.required:
        settings.decided.clear()
        raise UserError(f"speed.shared_prefix=on: {reason}. Use speed.shared_prefix=auto.")
    return reason


def is_packing(backbone: Any) -> bool:
    """Return whether a backbone shares prefixes: on a GPU, whether a batch has shown that it does."""
    settings: PackingSettings | None = getattr(backbone, "packing", None)
    if settings is None:
        return False
    if settings.chooser is not None and settings.chooser.choice is not None:
        return settings.chooser.choice.shares
    proven = settings.chooser is None and any(settings.decided.values())
    return next(backbone.parameters()).device.type in TRIED_BEFORE or proven


def is_sharded(backbone: Any) -> bool:
    """Return whether processes hold a share of each layer: under FSDP and ZeRO-3."""
    from torch.distributed.tensor import DTensor

    # FSDP2 has gathered what belongs to the whole model by now, such as the embeddings: only layers are still sharded.
    sharded = any(isinstance(weight, DTensor) or hasattr(weight, "ds_id") for weight in backbone.parameters())
    return sharded or type(backbone).__name__.startswith("FSDP")

"""Chooses the device and the precision of a run."""

from __future__ import annotations

import os

from alignzoo.system import ranks
from alignzoo.system.errors import UserError


def choose_device(wanted: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps`` for ``strategy.device``.

    One process uses one GPU: where several are visible, and it is the only process, the first (TRL's trainers
    refuse torch's DataParallel). Must be called before CUDA is used.
    """
    if wanted in ("auto", "cuda") and ranks.world_size() == 1:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    import torch

    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if has[device])
    if not has[wanted]:
        raise UserError(f"strategy.device={wanted}: this machine offers {', '.join(d for d in has if has[d])}.")
    return wanted


def choose_precision(wanted: str, device: str) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16`` for ``train.precision``.

    Auto never takes fp16, which overflows in log-probabilities, nor bf16 where it is emulated (before Ampere, and on
    most CPUs, where it is several times slower than fp32).
    """
    real_bf16 = device == "cuda" and _compute_capability() >= (8, 0)
    if wanted == "auto":
        return "bf16" if real_bf16 else "fp32"
    if wanted == "bf16" and not real_bf16:
        raise UserError(f"train.precision=bf16: the {device} here has no bf16 of its own. Use train.precision=fp32.")
    if wanted == "fp16" and device != "cuda":
        raise UserError(
            f"train.precision=fp16 needs a CUDA device; this run uses the {device}. Use train.precision=fp32."
        )
    return wanted


def _compute_capability() -> tuple[int, int]:
    import torch

    return torch.cuda.get_device_capability()

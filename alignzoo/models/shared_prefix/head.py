"""Scores only the positions that have a label, as TRL does on Triton devices alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_before: list[Callable[..., bool]] = []


def score_labels_only() -> None:
    """Keep prompts and padding from the head on a CPU too, until :func:`score_all`.

    ``add_fused_lm_head`` asks ``trl.trainer.utils._use_triton`` whether to compact the positions, and nothing else
    there does; the kernel asks for itself. The log-probabilities are the same ones.
    """
    from trl.trainer import utils

    original: Any = getattr(utils, "_use_triton", None)
    if original is None or _before:
        return
    _before.append(original)
    # patch: trl utils._use_triton
    utils._use_triton = lambda device: device.type == "cpu" or original(device)


def score_all() -> None:
    """Undo :func:`score_labels_only`."""
    from trl.trainer import utils

    if _before:
        utils._use_triton = _before.pop()

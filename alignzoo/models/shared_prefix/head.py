"""Scores only the positions that have a label, as TRL does on Triton devices alone."""

from __future__ import annotations

from typing import Any


def score_labels_only() -> None:
    """Keep prompts and padding from the head on a CPU too, until :func:`score_all`.

    ``add_fused_lm_head`` asks ``trl.trainer.utils._use_triton`` whether to compact the positions, and nothing else
    there does; the kernel asks for itself. The log-probabilities are the same ones.
    """
    from trl.trainer import utils

    original: Any = getattr(utils, "_use_triton", None)
    if original is None or hasattr(original, "untouched"):
        return

    def compacts(device: Any) -> bool:
        return device.type == "cpu" or bool(original(device))

    compacts.untouched = original  # type: ignore[attr-defined]
    # patch: trl utils._use_triton
    utils._use_triton = compacts


def score_all() -> None:
    """Undo :func:`score_labels_only`."""
    from trl.trainer import utils

    ours: Any = getattr(utils, "_use_triton", None)
    if hasattr(ours, "untouched"):
        utils._use_triton = ours.untouched

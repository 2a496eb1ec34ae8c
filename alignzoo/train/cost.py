"""Measures a run's seconds and memory, and estimates its operations."""

from __future__ import annotations

import time
from typing import Any

from alignzoo.system import memory


class Stopwatch:
    """Adds up the seconds spent inside ``with`` blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self.began = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self.began


def estimate_flops(model: Any, tokens: int, reference: bool, teacher: Any = None) -> float:
    """Estimate a training's floating-point operations: 6 per weight and token (Kaplan et al., 2020), 2 for a reference.

    ``teacher``: a model to learn from, 2 for each of its weights. ``tokens`` are those trained on, without padding.
    Sampling, attention's own products and recomputed activations are not counted; a frozen weight under an adapter
    counts 4, since it gets no gradient of its own.
    """
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    frozen = sum(weight.numel() for weight in model.parameters()) - trained
    taught = sum(weight.numel() for weight in teacher.parameters()) if teacher else 0
    return float(tokens * (2 * taught + 6 * trained + 4 * frozen + (2 * (trained + frozen) if reference else 0)))


def read_peak_memory(device: str) -> int:
    """Return the run's peak memory so far, in bytes: the GPU's where there is one, else the process's."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return memory.read_peak()


def read_free_memory(device: str) -> int:
    """Return the bytes that are free where :func:`read_peak_memory` counts: on the GPU, else on the machine."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)

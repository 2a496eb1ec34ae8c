"""Estimates the seconds of an optimizer step from its operations and the device's rate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from alignzoo.plan.phases import Passes
    from alignzoo.plugin.method import Method

#: Share of the rate of large matrix products that a training step reaches: other operations take time too.
EFFICIENCY = 0.5

#: Operations per byte that is read, where only ``--tflops`` is given: 989 TFLOP/s over 3.35 TB/s of an H100.
FLOPS_PER_BYTE = 295

#: Width of the square matrices that are multiplied to measure the rate: a CPU takes a tenth of a second, a GPU a
#: thousandth; smaller ones would not fill it.
WIDTHS = {"cpu": 1536, "mps": 4096, "cuda": 8192}
READ = 1 << 28  #: bytes that are read to measure the bandwidth


@dataclass(frozen=True)
class Rate:
    """A device's speed, per second."""

    flops: float
    """Floating-point operations of large matrix products."""

    bytes: float
    """Bytes read from its memory."""

    measured: bool
    """Whether it was measured on this machine; else it is from ``--tflops``."""


def make_rate(tflops: float) -> Rate:
    """Return the rate of a device with so many TFLOP/s."""
    return Rate(tflops * 1e12, tflops * 1e12 / FLOPS_PER_BYTE, measured=False)


def measure_rate(device: str, precision: str) -> Rate:
    """Multiply and read on ``device`` for about a second, and return the best of several rates."""
    import torch

    memory = torch.ones(READ // 4, dtype=torch.float32, device=device)
    products = measure_products(device, precision)
    return Rate(products, READ / _time_best(lambda: float(memory.sum())), measured=True)


def measure_products(device: str, precision: str) -> float:
    """Return the best of several rates of large matrix products on ``device``, in operations per second."""
    import torch

    width = WIDTHS[device]
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    square = torch.rand((width, width), dtype=dtype, device=device)
    return 2 * width**3 / _time_best(lambda: float((square @ square)[0, 0]))


def _time_best(work: Callable[[], float]) -> float:
    """Return the shortest of five times that the work takes, in seconds, after one that warms up."""
    times = []
    for _ in range(6):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times[1:])


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step on each device, without communication between devices."""

    training: float
    sampling: float

    @property
    def total(self) -> float:
        """All seconds."""
        return self.training + self.sampling


def estimate_row_time(passes: Passes, rate: Rate) -> float:
    """Return the seconds that the yardstick takes for a held-out row after training, none of whose answers ends early.

    A row is answered greedily and sampled; its pair, where it has one, and its sample under both models are scored.
    """
    from alignzoo.evaluate.completions import GENERATED_PER_SCORED

    work, speed, time = passes.work, EFFICIENCY * rate.flops, 0.0
    if work.score and passes.scoring:
        time += 2 * passes.scoring.flops / work.score.sequences / speed
    if work.generate and passes.generating and passes.comparing:
        rows = work.generate.sequences
        read = (work.generate.tokens - work.prompt) * passes.skeleton.weight_bytes / rate.bytes
        time += max(2 * passes.generating.flops / rows / speed, read / rows / GENERATED_PER_SCORED)
        time += 2 * passes.comparing.flops / rows / speed
    return time


def estimate_step_time(passes: Passes, method: type[Method], rate: Rate) -> StepTime:
    """Return the time of an optimizer step with the passes' batches."""
    work, speed = passes.work, EFFICIENCY * rate.flops
    flops = float(passes.training.flops)
    if passes.holding.reference or method.scores_again:
        flops += passes.reference.flops
    sampling = 0.0
    if work.sample and passes.sampling:
        new = work.sample.tokens - work.sample_prompt
        read = new * passes.skeleton.weight_bytes / rate.bytes  # each token of a batch needs all weights once
        sampling = max(passes.sampling.flops / speed, read)
    return StepTime(work.batches * flops / speed, sampling)

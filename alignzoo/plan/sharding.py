"""Says which parts of a training each strategy divides among devices.

Stages as in Rajbhandari et al., 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models",
https://arxiv.org/abs/1910.02054, sections 3.1 and 5: optimizer state (1), gradients (2) and weights (3)
are divided by N. FSDP2 divides what stage 3 does (Zhao et al., 2023, https://arxiv.org/abs/2304.11277, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sharding:
    """What a strategy divides among N devices."""

    name: str
    weights: bool = False
    gradients: bool = False
    optimizer: bool = False

    buckets: bool = False
    """Gradients are copied into buckets of the same size, to be sent (torch's DDP, ``gradient_as_bucket_view``)."""

    low_precision: bool = False
    """In 16 bits, weights and gradients have 2 bytes, and the optimizer keeps weights of 4 (section 3.1: K = 12)."""

    loads_reference: bool = False
    """A reference is loaded to precompute its log-probabilities (TRL under FSDP), and freed after it."""

    def share(self, divided: bool, devices: int) -> float:
        """Return the share of one device."""
        return 1 / devices if divided else 1.0


SHARDINGS = {
    sharding.name: sharding
    for sharding in (
        Sharding("single"),
        Sharding("ddp", buckets=True),
        Sharding("fsdp", weights=True, gradients=True, optimizer=True, loads_reference=True),
        Sharding("zero2", gradients=True, optimizer=True, low_precision=True),
        Sharding("zero3", weights=True, gradients=True, optimizer=True, low_precision=True),
    )
}


def find_sharding(strategy: str, devices: int) -> Sharding:
    """Return the sharding of ``strategy.name``; an unknown one is one process, or DDP over several."""
    return SHARDINGS.get(strategy) or SHARDINGS["ddp" if devices > 1 else "single"]

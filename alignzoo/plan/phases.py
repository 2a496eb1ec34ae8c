"""Lists the phases of a run with what a device holds in each; the largest is the peak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from alignzoo.plan.live_bytes import LiveBytes
from alignzoo.plan.passes import Settings, Size, run_sampling_pass, run_scoring_pass, run_training_pass
from alignzoo.plan.sharding import Sharding
from alignzoo.plan.skeleton import Skeleton
from alignzoo.system import memory

OPTIMIZER_BYTES = 8  #: of AdamW for a trained weight: two moments in float32
MASTER_BYTES = 4  #: of a float32 copy of a trained weight

#: Of the activations under an adapter, what glibc leaves unused between them: seen with glibc 2.36, not derived. torch
#: allocates by ``posix_memalign``, which looks for more than it needs and so passes by a hole of just that size.
GAPS = 0.6


@dataclass(frozen=True)
class Workload:
    """What goes through the model, on one device."""

    train: Size
    """One batch forward and backward; ``tokens`` includes the completion."""

    sample: Size | None
    """Completions sampled at once in training, for on-policy methods; ``tokens`` includes the prompt."""

    sample_prompt: int
    """Tokens of the longest prompt to sample for."""

    score: Size | None
    """Held-out sequences scored at once; None: nothing is measured."""

    generate: Size | None
    """Held-out prompts completed at once; ``tokens`` includes the completion."""

    prompt: int
    """Tokens of the longest held-out prompt."""

    batches: int
    """Batches of ``train`` in an optimizer step."""


@dataclass(frozen=True)
class Holding:
    """What a method holds that its trainer does not show."""

    reference: bool
    """A reference model stays in memory beside the policy."""

    precomputes: bool
    """The reference's log-probabilities are computed before training."""


@dataclass(frozen=True)
class Phase:
    """What one device holds in one phase of a run, in bytes by kind."""

    name: str
    held: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.held.values())


class Passes:
    """The passes of a run over a skeleton, each made once; strategies differ in arithmetic alone."""

    def __init__(
        self,
        skeleton: Skeleton,
        work: Workload,
        settings: Settings,
        holding: Holding,
        teacher: Skeleton | None = None,
    ) -> None:
        self.skeleton, self.work, self.settings, self.holding = skeleton, work, settings, holding
        self.teacher = teacher

    @cached_property
    def training(self) -> LiveBytes:
        """One batch forward and backward."""
        return run_training_pass(self.skeleton, self.work.train, self.settings, self.teacher)

    @cached_property
    def reference(self) -> LiveBytes:
        """One batch forward, for the reference's log-probabilities."""
        return run_scoring_pass(self.skeleton, self.work.train, self.settings, chunked=True)

    @cached_property
    def sampling(self) -> LiveBytes | None:
        """The completions of one batch."""
        work = self.work
        return run_sampling_pass(self.skeleton, work.sample, work.sample_prompt) if work.sample else None

    @cached_property
    def scoring(self) -> LiveBytes | None:
        """Held-out rows scored."""
        size = self.work.score
        return run_scoring_pass(self.skeleton, size, self.settings, chunked=False) if size else None

    @cached_property
    def generating(self) -> LiveBytes | None:
        """Held-out prompts completed."""
        work = self.work
        return run_sampling_pass(self.skeleton, work.generate, work.prompt) if work.generate else None

    @cached_property
    def comparing(self) -> LiveBytes | None:
        """Sampled completions scored, for the KL."""
        size = self.work.generate
        return run_scoring_pass(self.skeleton, size, self.settings, chunked=False) if size else None


def list_phases(passes: Passes, sharding: Sharding, devices: int = 1) -> list[Phase]:
    """Return what a device of ``devices`` holds in each phase of a run."""
    return [
        *_list_before(passes, sharding, devices),
        *_list_training(passes, sharding, devices),
        *_list_after(passes, sharding, devices),
    ]


def _count_base(passes: Passes, sharding: Sharding, devices: int, training: bool = True) -> dict[str, int]:
    """Return the bytes that a device holds between two batches: weights, reference, and optimizer state."""
    skeleton, low = passes.skeleton, sharding.low_precision and passes.settings.precision != "fp32"
    weights = skeleton.weight_bytes - (2 * skeleton.trained if low else 0)
    share = sharding.share(sharding.weights, devices)
    held = {"weights": int(weights * share)}
    if sharding.weights and devices > 1:
        held["gathered"] = _count_gathered(passes)
    if passes.teacher:
        held["teacher"] = passes.teacher.weight_bytes  # whole in every process
    if training and passes.holding.reference:
        held["reference"] = int(weights * share)
    if training:
        each = OPTIMIZER_BYTES + (MASTER_BYTES if low else 0)
        held["optimizer"] = int(each * skeleton.trained * sharding.share(sharding.optimizer, devices))
    return held


def _count_gathered(passes: Passes) -> int:
    """Return the bytes that a sharded model gathers to compute: two blocks of layers, and the embeddings."""
    skeleton = passes.skeleton
    tables = {id(w): w.numel() * w.element_size() for w in (skeleton.core.get_input_embeddings().weight, skeleton.head)}
    whole = 2 * skeleton.layer_bytes + sum(tables.values())
    halved = skeleton.head.element_size() == 4 and passes.settings.precision != "fp32"
    return int(whole // 2 if halved else whole)


def _list_before(passes: Passes, sharding: Sharding, devices: int) -> Iterator[Phase]:
    """Yield the measuring of the start model, and the reference's pass."""
    held = _count_base(passes, sharding, devices, training=False)
    for live, name in ((passes.scoring, "logits"), (passes.generating, "sampling")):
        if live:
            yield Phase("measuring the start model", {**held, name: live.find_peak()[0]})
    if passes.teacher and passes.comparing:
        yield Phase("measuring the start model", {**held, "logits": _count_compared(passes, passes.comparing)})
    if passes.holding.precomputes:
        held["reference"] = held["weights"] if sharding.loads_reference and devices > 1 else 0
        yield Phase("reference log-probabilities", {**held, "activations": passes.reference.find_peak()[0]})


def _list_training(passes: Passes, sharding: Sharding, devices: int) -> Iterator[Phase]:
    """Yield sampling, a batch forward and backward, and the optimizer step."""
    held, skeleton = _count_base(passes, sharding, devices), passes.skeleton
    low = sharding.low_precision and passes.settings.precision != "fp32"
    share = sharding.share(sharding.gradients, devices) * (0.5 if low else 1.0)
    whole = int(share * skeleton.gradient_bytes)
    buckets = {"buckets": skeleton.gradient_bytes} if sharding.buckets and devices > 1 else {}
    left = _count_freed(passes, 0)
    if passes.sampling:
        yield Phase("sampling", {**held, **buckets, **left, "sampling": passes.sampling.find_peak()[0]})
    rest, gradients = passes.training.find_peak(share)
    logits = max(0, rest - passes.training.backbone)
    parts = {"gradients": gradients, "activations": rest - logits, "logits": logits}
    if skeleton.is_adapted and passes.settings.device == "cpu" and memory.leaves_gaps():
        parts["gaps"] = int(GAPS * parts["activations"])
    yield Phase("training", {**held, **buckets, **parts, **_count_freed(passes, gradients)})
    yield Phase(
        "optimizer step",
        {**held, **buckets, "gradients": whole, "temporary": _count_temporary(passes, sharding, devices)},
    )


def _count_freed(passes: Passes, gradients: int) -> dict[str, int]:
    """Return what stays resident on a CPU of gradients that were freed; ``gradients`` bytes are there themselves.

    The C library can give their memory back only where nothing lies above it, and the optimizer's state does, which
    is made after the first of them.
    """
    if passes.settings.device != "cpu":
        return {}
    return {"freed gradients": max(0, passes.skeleton.gradient_bytes - gradients)}


def _count_temporary(passes: Passes, sharding: Sharding, devices: int) -> int:
    """Return the temporaries of torch's AdamW: on a GPU of all weights at once, else of one, twice."""
    if passes.settings.device == "cuda":
        return int(4 * passes.skeleton.trained * sharding.share(sharding.optimizer, devices))
    return 2 * passes.skeleton.largest


def _list_after(passes: Passes, sharding: Sharding, devices: int) -> Iterator[Phase]:
    """Yield the measuring of the trained model: with the optimizer state, and the start model for the KL."""
    held = _count_base(passes, sharding, devices) | _count_freed(passes, 0)
    if passes.scoring:
        yield Phase("measuring", {**held, "logits": passes.scoring.find_peak()[0]})
    if passes.comparing and passes.work.generate:
        start = 0 if passes.skeleton.is_adapted else held["weights"]
        logits = _count_compared(passes, passes.comparing)
        yield Phase("measuring the KL", {**held, "start model": start, "logits": logits})
        if passes.generating:  # the start model stays while the next completions are sampled
            yield Phase(
                "measuring the KL", {**held, "start model": start, "sampling": passes.generating.find_peak()[0]}
            )


def _count_compared(passes: Passes, live: LiveBytes) -> int:
    """Return the bytes of one model's logits, while another computes its own."""
    size, head = passes.work.generate, passes.skeleton.head
    one = size.positions * head.shape[0] * head.element_size() if size else 0
    return int(one + live.find_peak()[0])

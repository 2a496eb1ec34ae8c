"""Chooses by the first batch of a training whether its rows share prompts: equality first, then time.

A few layers take the batch forward and backward both ways, so that the choice costs less than a step. It is kept in the
cache for this kind of model, batch and machine, and for the jobs of a sweep, so that a repeated run has the same bits.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignzoo.models.shared_prefix.memory import describe_batch, describe_machine, describe_model, keep, recall
from alignzoo.models.shared_prefix.supported import examine, make_trial

log = logging.getLogger(__name__)

#: Layers that take the batch: all are alike, and two of thirty make the choice cost less than a step.
LAYERS = 2

#: Times that each way is timed at least, after once that warms up; the best counts.
TURNS = 2

#: Short passes are timed more often, up to so many turns and until they take so many seconds together.
MOST_TURNS, SHORT = 20, 0.5

#: Rows are computed one by one where that takes less than this share of the time: noise does not change the way.
FASTER = 0.98


@dataclass(frozen=True)
class Choice:
    """Whether the rows of a training's batches share prompts."""

    shares: bool

    reason: str
    """Why, as it is told."""

    def __str__(self) -> str:
        how = "once" if self.shares else "for each row"
        return f"prompts shared by a batch's rows are computed {how}: {self.reason}"


class Chooser:
    """Chooses once for a training, at its first batch that could share; what was chosen stays."""

    def __init__(
        self,
        before: Mapping[str, Any] | None = None,
        sweep: str | None = None,
        tell: Callable[[Choice], None] = lambda choice: None,
    ) -> None:
        """Prepare to choose.

        Args:
            before: the choice of the run that is resumed, as a :class:`Choice`'s fields.
            sweep: what names the sweep, whose jobs choose alike for batches of as many sequences, but for one that is
                known by itself.
            tell: called with what was chosen.
        """
        self.choice = Choice(**before) if before else None
        self.sweep, self.tell = sweep, tell
        if self.choice:
            tell(self.choice)

    def shares(self, backbone: Any, inputs: dict[str, Any], tokens: int, otherwise: bool) -> bool:
        """Return whether a batch shares prompts; the first one that trains is tried.

        Args:
            backbone: takes ``inputs`` both ways.
            inputs: of its forward pass, padded.
            tokens: of the packed batch.
            otherwise: the answer for batches that do not train, before one that does.
        """
        if self.choice is None:
            if not (torch.is_grad_enabled() and backbone.training):
                return otherwise
            self.choice = self._choose(backbone, inputs, tokens)
            log.info("%s.", self.choice)
            self.tell(self.choice)
        return self.choice.shares

    def _choose(self, backbone: Any, inputs: dict[str, Any], tokens: int) -> Choice:
        """Return what was chosen before for such a batch, or try it and keep what is chosen."""
        ids: Tensor = inputs["input_ids"]
        facts = [*describe_machine(ids.device), *describe_model(backbone)]
        keys = [[*facts, *describe_batch(ids, tokens)]]
        if self.sweep:
            keys.append([*facts, self.sweep, len(ids)])
        found = recall(keys)
        if found is not None:
            return Choice(**keep(keys, found))  # by its own batch too, so that the job has the same bits by itself
        try:
            found = vars(compare_ways(backbone, inputs))
        except Exception as error:  # whatever a library raises; the next training tries again
            return Choice(False, f"the first batch fails where they are shared ({type(error).__name__})")
        return Choice(**keep(keys, found))


def compare_ways(backbone: Any, inputs: dict[str, Any]) -> Choice:
    """Try both ways on a few layers; neither weights, their gradients nor random state are touched."""
    device: torch.device = inputs["input_ids"].device
    kind, name = device.type, describe_machine(device)[0]
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    cast = torch.autocast(kind, dtype=dtype, enabled=dtype is not None, cache_enabled=False)
    devices = [device] if kind == "cuda" else []
    with _few_layers(backbone), torch.random.fork_rng(devices), backbone.packing.trying(backbone), cast:
        found = examine(make_trial(backbone, dtype, gradients=True))
        if found.reason:
            return Choice(False, found.reason)
        ratio = _time_ways(backbone, inputs)
    if ratio < FASTER:
        return Choice(False, f"sharing them takes {1 / ratio:.2f} x as long on {name}")
    return Choice(True, f"{ratio:.1f} x as fast on {name}, equal within {found.difference:.0e}")


def _time_ways(backbone: Any, inputs: dict[str, Any]) -> float:
    """Return how many times as long as sharing it takes to compute the rows one by one; turn by turn."""
    ways = {"each": functools.partial(type(backbone).forward, backbone), "shared": backbone.forward}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(1 + MOST_TURNS):
        for name, forward in ways.items():
            seconds[name].append(_time_pass(backbone, forward, inputs))
        if turn >= TURNS and sum(map(sum, seconds.values())) > SHORT:
            break
    each, shared = (min(seconds[name][1:]) for name in ("each", "shared"))
    return each / shared


def _time_pass(backbone: Any, forward: Callable[..., Any], inputs: dict[str, Any]) -> float:
    """Return the seconds of a pass forward and backward, whose gradients are dropped."""
    device: torch.device = inputs["input_ids"].device
    table = backbone.get_input_embeddings()
    moved = torch.zeros(backbone.config.hidden_size, device=device, requires_grad=True)
    weights = [weight for weight in backbone.parameters() if weight.requires_grad and weight is not table.weight]
    hook = table.register_forward_hook(lambda module, given, output: output + moved.to(output.dtype))
    began = _read_clock(device)
    try:
        states: Tensor = forward(**inputs).last_hidden_state
        torch.autograd.grad(states.sum(), [moved, *weights], allow_unused=True)
    finally:
        hook.remove()
    return _read_clock(device) - began


def _read_clock(device: torch.device) -> float:
    """Return seconds: of a CPU those that this process has had, so that other programs do not decide."""
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def _few_layers(backbone: Any) -> Iterator[None]:
    """Let a backbone stop behind its first layers; a family that does not ask its config takes all of them."""
    config, layers = backbone.config, backbone.config.num_hidden_layers
    config.num_hidden_layers = min(LAYERS, layers)
    try:
        yield
    finally:
        config.num_hidden_layers = layers

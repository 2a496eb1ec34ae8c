"""Surveys what each strategy with each adapter needs for a run, and what to change if nothing fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alignzoo.plan.footprint import make_passes
from alignzoo.plan.phases import Passes, Phase, list_phases
from alignzoo.plan.sharding import SHARDINGS, Sharding, find_sharding
from alignzoo.plan.workload import Lengths, make_workload

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method


@dataclass(frozen=True)
class Target:
    """The devices to plan for."""

    device: str
    precision: str
    devices: int

    memory: float
    """Bytes of one device."""

    fixed: int
    """Bytes in use before the first weight: libraries, and on a GPU its context."""


@dataclass(frozen=True)
class Need:
    """What one device needs at the peak."""

    phase: Phase
    fixed: int

    @property
    def bytes(self) -> int:
        """All bytes."""
        return self.phase.total + self.fixed


class Survey:
    """One run's needs under every strategy, with the adapters in ``adapters`` (name -> group ``peft``)."""

    def __init__(
        self,
        cfg: DictConfig,
        method: type[Method],
        config: Any,
        lengths: Lengths,
        adapters: dict[str, DictConfig],
        target: Target,
    ) -> None:
        self.cfg, self.method, self.config, self.lengths = cfg, method, config, lengths
        self.adapters, self.target = adapters, target
        self._passes: dict[tuple[str, int], Passes] = {}

    def passes(self, adapter: str, devices: int) -> Passes:
        """Return the passes with this adapter on so many devices; made once."""
        key = adapter, devices
        if key not in self._passes:
            work = make_workload(self.cfg, self.method, self.lengths, devices)
            settings = self.target.device, self.target.precision, self.adapters[adapter]
            self._passes[key] = make_passes(self.cfg, self.method, self.config, work, *settings)
        return self._passes[key]

    def find_need(self, sharding: Sharding, adapter: str) -> Need | None:
        """Return what one device needs; None where strategy and adapter cannot be combined."""
        quantized = bool(self.adapters[adapter].get("quantization"))
        if quantized and (self.target.device != "cuda" or sharding.weights):
            return None
        devices = 1 if sharding.name == "single" else self.target.devices
        found = list_phases(self.passes(adapter, devices), sharding, devices)
        return Need(max(found, key=lambda phase: phase.total), self.target.fixed)

    @cached_property
    def table(self) -> dict[str, dict[str, Need | None]]:
        """Strategy -> adapter -> need."""
        return {s.name: {a: self.find_need(s, a) for a in self.adapters} for s in SHARDINGS.values()}

    @property
    def chosen(self) -> Sharding:
        """The sharding of the configured strategy."""
        return find_sharding(self.cfg.strategy.name, self.target.devices)

    def fits(self, need: Need | None) -> bool:
        """Whether one device has the memory."""
        return need is not None and need.bytes <= self.target.memory

    def any_fits(self) -> bool:
        """Whether one of the table's entries fits."""
        return any(self.fits(need) for row in self.table.values() for need in row.values())

    def find_remedy(self) -> tuple[list[str], Need] | None:
        """Return the overrides after which the configured strategy and adapter fit, and what they then need.

        They are added one by one, those that change no result first. None: all together are not enough.
        """
        changes: list[str] = []
        for change in self._list_changes():
            changes.append(change)
            survey = Survey(
                apply_changes(self.cfg, changes), self.method, self.config, self.lengths, self.adapters, self.target
            )
            need = survey.find_need(self.chosen, self.cfg.peft.name)
            if need and survey.fits(need):
                return changes, need
        return None

    def _list_changes(self) -> Iterator[str]:
        train = self.cfg.train
        if train.per_device_batch_tokens is None and train.per_device_batch_size > self._least:
            yield f"train.per_device_batch_size={self._least}"
        if not self.passes(self.cfg.peft.name, self.target.devices).settings.checkpointing:
            yield "train.gradient_checkpointing=true"

    @property
    def _least(self) -> int:
        """Rows that a batch holds at least: two where each is paired with another's completion."""
        return 2 if self.method.scores_again else 1


def apply_changes(cfg: DictConfig, changes: Sequence[str]) -> DictConfig:
    """Return the configuration with the values of ``key=value`` changed."""
    from omegaconf import OmegaConf

    new: DictConfig = OmegaConf.merge(cfg, OmegaConf.from_dotlist(list(changes)))  # type: ignore[assignment]
    return new

"""Holds a configuration that has been checked, with what its words resolve to, each worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from alignzoo.config.placement import Placement, place

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method


@dataclass(frozen=True)
class Checked:
    """A configuration without known mistakes; :func:`alignzoo.config.check.check` makes it.

    What needs torch is worked out at its first use, since a mistake has to be answered in less than torch's import.
    """

    cfg: DictConfig
    method: type[Method]

    time_limit: float | None
    """``train.stop_before`` in seconds; None: no limit."""

    patience: float
    """``strategy.patience`` in seconds: how long a process waits for the others before it takes them for lost."""

    @cached_property
    def placement(self) -> Placement:
        """How the run is divided between processes.

        Raises:
            UserError: the batch does not fall into equal parts, or there are no GPUs where the strategy needs them.
        """
        return place(self.cfg)

    @cached_property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``mps``.

        Raises:
            UserError: this machine does not have the device that ``strategy.device`` names.
        """
        from alignzoo.system.device import choose_device

        return choose_device(self.cfg.strategy.device)

    @cached_property
    def precision(self) -> str:
        """``fp32``, ``bf16`` or ``fp16``.

        Raises:
            UserError: the device does not have the precision that ``train.precision`` names.
        """
        from alignzoo.system.device import choose_precision

        return choose_precision(self.cfg.train.precision, self.device)

    @property
    def adapts(self) -> bool:
        """Whether an adapter trains, and not all weights."""
        return bool(self.cfg.peft.name != "none")

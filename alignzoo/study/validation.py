"""Reads what a run's validation rows say of it: all that tuning may look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignzoo.runs.folder import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

DEFAULT = "dataset.validation.fraction=0.1"  #: where the command names no rows to select by


def has_validation(cfg: DictConfig) -> bool:
    """Tell whether the configuration names rows to select by."""
    named = cfg.dataset.validation
    return bool(named.split or named.path or named.fraction)


def read_validation(run: Run) -> Mapping[str, Any] | None:
    """Return ``before`` and ``after`` of the validation rows, in the form of ``result.json``; None without a result."""
    result = run.result
    if result is None or "validation" not in result:
        return None
    return {**result["validation"], "cost": result.get("cost", {})}

"""Reads what a run's validation rows say of it: all that tuning may look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignzoo.data.sources import find_beside
from alignzoo.runs.folder import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

SHARE = "dataset.validation.fraction=0.1"  #: where neither command nor dataset names rows to select by


def choose_validation(cfg: DictConfig) -> list[str]:
    """Return the words that give the configuration rows to select by, none where it has them."""
    named = cfg.dataset.validation
    if named.split or named.path or named.fraction:
        return []
    beside = find_beside(cfg.dataset.path)
    return [f"dataset.validation.path={beside}"] if beside else [SHARE]


def read_validation(run: Run) -> Mapping[str, Any] | None:
    """Return ``before`` and ``after`` of the validation rows, in the form of ``result.json``; None without a result."""
    result = run.result
    if result is None or "validation" not in result:
        return None
    return {**result["validation"], "cost": result.get("cost", {})}

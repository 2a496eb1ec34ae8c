"""Reads what a run's validation rows say of it: all that tuning may look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignzoo.runs.folder import Run


def read_validation(run: Run) -> Mapping[str, Any] | None:
    """Return ``before`` and ``after`` of the validation rows, in the form of ``result.json``; None without a result."""
    return run.result

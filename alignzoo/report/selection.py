"""Says in a sentence on which rows runs were selected, and what that does to their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ADVICE = "dataset.validation.fraction=0.1 gives rows to select on"


def describe_selection(results: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the sentence on the ``selected_on`` of some ``result.json``; None where none was selected."""
    sides = {result.get("selected_on") for result in results}
    if "heldout" in sides:
        return (
            "Selected on these rows: a sweep or an early stop chose by the held-out rows that are reported here, so "
            f"that the numbers of what it chose are too good. {ADVICE}."
        )
    if "validation" in sides:
        return "Selected on validation rows: the held-out rows took no part in it."
    return None

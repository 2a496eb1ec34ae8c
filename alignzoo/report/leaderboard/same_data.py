"""Marks the settings of a leaderboard that were trained or measured on other rows than most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from alignzoo.report.leaderboard.rows import Row

T = TypeVar("T")

WHAT = {"train": "training rows", "heldout": "held-out rows"}


def mark_other_data(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Mark the rows whose data is not that of most, and say so."""
    others: dict[int, list[str]] = {place: [] for place in range(len(rows))}
    notes = []
    for split, agree in (("train", _same_training), ("heldout", _same_heldout)):
        odd = find_odd([_read_hashes(row, split) for row in rows], agree)
        for place in odd:
            others[place].append(WHAT[split])
        if odd:
            named = ", ".join(rows[place].name for place in odd)
            notes.append(
                f"Not all settings had the same {WHAT[split]}: {named}. `alignzoo manifest RUN RUN` names them."
            )
    return [replace(row, other_data=" and ".join(others[place])) for place, row in enumerate(rows)], notes


Hashes = dict[Any, Any]  #: seed -> hash of its manifest


def _read_hashes(row: Row, split: str) -> Hashes:
    return {run.seed: (run.result or {}).get("data", {}).get(split) for run in row.runs}


def find_odd(parts: Sequence[T], agree: Callable[[T, T], bool]) -> list[int]:
    """Return the places that do not agree with the one that most agree with."""
    if not parts:
        return []
    common = max(parts, key=lambda one: sum(agree(one, other) for other in parts))
    return [place for place, other in enumerate(parts) if not agree(common, other)]


def _same_training(a: Hashes, b: Hashes) -> bool:
    """``dataset.rows`` draws other rows for each seed, so the same seeds are compared where there are any."""
    shared = a.keys() & b.keys()
    return all(a[seed] == b[seed] for seed in shared) if shared else bool(set(a.values()) & set(b.values()))


def _same_heldout(a: Hashes, b: Hashes) -> bool:
    return set(a.values()) == set(b.values())

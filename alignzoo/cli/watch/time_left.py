"""Estimates how long the runs of a folder still take, from those that have ended and the pace of those that run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from alignzoo.cli.watch.run_page import PREPARING
from alignzoo.runs.progress import MEASURING
from alignzoo.runs.sweep_status import State

#: States of runs that are still to come.
WAITING = (State.PENDING, State.STOPPED)


def estimate_left(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the seconds until all have ended, if as many run at once as now; None where nothing runs or is known.

    A run that waits takes as long as those took that are done or, before any is, as those in training will.
    """
    running = [run for run in runs if run["state"] is State.RUNNING]
    measuring = _mean([run.get("measuring") for run in runs])
    each = _mean([run.get("seconds") for run in runs if run["state"] is State.DONE])
    if each is None:
        each = _mean([None if run["left"] is None else run["seconds"] + run["left"] for run in running])
    waiting = sum(run["state"] in WAITING for run in runs)
    left = [_estimate_run(run, each, measuring) for run in running]
    known = [one for one in left if one is not None]
    if not known or len(known) < len(left) or (waiting and each is None):
        return None
    return max(*known, (sum(known) + waiting * (each or 0.0)) / len(running))


def _estimate_run(run: Mapping[str, Any], each: float | None, measuring: float | None) -> float | None:
    """Return the seconds that a running run still takes: of its training, and of the measuring as others had it."""
    if run["phase"] == PREPARING:
        return each
    if run["phase"] == MEASURING:
        return measuring
    return None if run["left"] is None else float(run["left"]) + (measuring or 0.0)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None

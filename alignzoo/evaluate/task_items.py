"""Computes the numbers of benchmark tasks, with intervals over items, from the lines of ``tasks.jsonl``.

A line is one item of a task. It has ``task``, ``part``, ``item``, ``hash`` and, under ``before`` (the start model) and
``after``, ``scores``: metric -> number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from alignzoo.evaluate.intervals import Column, Estimate, bootstrap, wilson
from alignzoo.evaluate.simultaneous import compare_two

Line = Mapping[str, Any]


class TaskMetric(NamedTuple):
    """One number of a task: the mean of a metric over its items."""

    task: str
    metric: str

    @property
    def label(self) -> str:
        """As tables name it."""
        return f"{self.task}: {self.metric}"


def list_metrics(lines: Sequence[Line]) -> list[TaskMetric]:
    """Return the metrics that the lines have on both sides, in their order."""
    found = [
        TaskMetric(line["task"], metric)
        for line in lines
        for metric in line["after"]["scores"]
        if metric in line["before"]["scores"]
    ]
    return list(dict.fromkeys(found))


def select_items(lines: Sequence[Line], chosen: TaskMetric) -> list[Line]:
    """Return the lines of the task that have the metric on both sides."""
    return [
        line
        for line in lines
        if line["task"] == chosen.task and all(chosen.metric in line[side]["scores"] for side in ("before", "after"))
    ]


def collect_scores(lines: Sequence[Line], metric: str, side: str) -> Column:
    """Return the scores of a side, (lines,)."""
    return np.array([line[side]["scores"][metric] for line in lines], float)


def is_share(*columns: Column) -> bool:
    """Tell whether no score is outside of 0 to 1: the number is then shown as a percentage, and its bounds are used."""
    return all(bool(((column >= 0) & (column <= 1)).all()) for column in columns)


def estimate_mean(scores: Column, share: bool) -> Estimate:
    """Return the mean with its 95 % interval over items: Wilson's for a share, else from resampled items."""
    if share:
        return Estimate(float(scores.mean()), *wilson(float(scores.sum()), len(scores)))
    return bootstrap(scores)


def summarise_tasks(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """Return each number before and after, as ``result.json`` holds them under ``tasks``.

    ``intervals`` is that of the number after, ``change`` the paired difference with its ends: value, low, high.
    """
    return {chosen.label: _summarise(select_items(lines, chosen), chosen) for chosen in list_metrics(lines)}


def _summarise(lines: Sequence[Line], chosen: TaskMetric) -> dict[str, Any]:
    before, after = (collect_scores(lines, chosen.metric, side) for side in ("before", "after"))
    share = is_share(before, after)
    found = estimate_mean(after, share)
    change = compare_two(after, before, 1.0 if share else 0.0).subtract(0, 1)
    return {
        "items": len(lines),
        "share": share,
        "before": float(before.mean()),
        "after": found.value,
        "interval": [found.low, found.high],
        "change": [change.value, change.low, change.high],
    }


def format_score(value: float, share: bool) -> str:
    """Return a task's number as tables show it."""
    return f"{value:.1%}" if share else f"{value:.3f}"


def format_change(change: Estimate, share: bool) -> str:
    """Return a difference with its interval, as -3.1 (-6.0 to -0.2); of shares in points."""
    scale, form = (100.0, "{:+.1f}") if share else (1.0, "{:+.3f}")
    value, low, high = (form.format(scale * part) for part in (change.value, change.low, change.high))
    return f"{value} ({low} to {high})"

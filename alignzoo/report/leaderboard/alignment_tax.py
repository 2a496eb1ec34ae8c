"""Compares the settings of a leaderboard with their start model on benchmark tasks: the alignment tax.

The term is that of Ouyang et al. (2022, arXiv 2203.02155): what a model loses on benchmarks while it is aligned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.evaluate.intervals import Estimate
from alignzoo.evaluate.simultaneous import compare_settings
from alignzoo.evaluate.task_items import (
    TaskMetric,
    collect_scores,
    format_change,
    format_score,
    is_share,
    list_metrics,
    select_items,
)

if TYPE_CHECKING:
    from alignzoo.report.leaderboard.rows import Row

Items = Mapping[tuple[str, int, str], Mapping[str, Any]]
SAME = 1e-9  #: of two start models' scores


@dataclass(frozen=True)
class TaxColumn:
    """One number of a task for every setting that measured it."""

    metric: TaskMetric
    items: int
    """That all of these settings have."""

    share: bool
    start: float
    """The start model's."""

    values: Mapping[str, float]
    """By the setting's name, mean over its seeds."""

    changes: Mapping[str, Estimate]
    """Paired differences to the start model; their intervals hold together over the settings."""

    other_starts: bool
    """Whether settings began with models of different scores: each change is then to its own."""

    def format_start(self) -> str:
        """Return the start model's number as tables show it."""
        return format_score(self.start, self.share)

    def format_value(self, name: str) -> str:
        """Return a setting's number; empty where it did not measure it."""
        return format_score(self.values[name], self.share) if name in self.values else ""

    def format_change(self, name: str) -> str:
        """Return a setting's change with its interval; empty where it did not measure it."""
        return format_change(self.changes[name], self.share) if name in self.changes else ""


def compare_tasks(rows: Sequence[Row]) -> list[TaxColumn]:
    """Return each number of each task, for the rows whose seeds have all measured it."""
    lines = {row.name: [run.items for run in row.runs] for row in rows}
    every = [metric for runs in lines.values() for run in runs for metric in list_metrics(run)]
    found = [_compare(metric, lines) for metric in dict.fromkeys(every)]
    return [column for column in found if column is not None]


def _compare(metric: TaskMetric, lines: Mapping[str, Sequence[Sequence[Any]]]) -> TaxColumn | None:
    """Compare the settings with their start on the items that all of them share; None where there is none."""
    chosen = {name: [_index(run, metric) for run in runs] for name, runs in lines.items()}
    chosen = {name: runs for name, runs in chosen.items() if all(runs)}
    runs = [run for found in chosen.values() for run in found]
    shared = [key for key in runs[0] if all(key in run for run in runs)] if runs else []
    if not shared:
        return None
    before, after = (
        {name: np.stack([_collect(run, shared, metric, side) for run in found]) for name, found in chosen.items()}
        for side in ("before", "after")
    )
    share = is_share(*before.values(), *after.values())
    # A setting less its own start, beside nothing: with one start model that is the difference to it.
    gains = [np.zeros((1, len(shared))), *(after[name] - before[name] for name in chosen)]
    compared = compare_settings(gains, [key[2] for key in shared], 0, 1.0 if share else 0.0)
    starts = [float(one) for column in before.values() for one in column.mean(1)]
    return TaxColumn(
        metric,
        len(shared),
        share,
        starts[0],
        {name: float(column.mean()) for name, column in after.items()},
        {name: compared.subtract(place, 0) for place, name in enumerate(chosen, 1)},
        max(starts) - min(starts) > SAME,
    )


def _index(lines: Sequence[Any], metric: TaskMetric) -> Items:
    return {(line["part"], line["item"], line["hash"]): line for line in select_items(lines, metric)}


def _collect(run: Items, keys: Sequence[tuple[str, int, str]], metric: TaskMetric, side: str) -> Any:
    return collect_scores([run[key] for key in keys], metric.metric, side)


def list_names(columns: Sequence[TaxColumn]) -> list[str]:
    """Return the settings that measured any of them."""
    return list(dict.fromkeys(name for column in columns for name in column.values))


def describe_tax(columns: Sequence[TaxColumn]) -> list[str]:
    """Return in sentences which settings are told from their start model, and what the table holds of."""
    if not columns:
        return []
    told = []
    for column in columns:
        for name, change in column.changes.items():
            if not change.is_zero:
                way = "below" if change.value < 0 else "above"
                told.append(f"{name} is {way} the start model in {column.metric.label}: {column.format_change(name)}.")
    none = "no setting is told from the start model on any of them."
    several = " (the intervals of a benchmark hold together at 95 %, those of several do not)" * (len(columns) > 1)
    notes = [f"Benchmarks: {told[0]}" if told else f"Benchmarks: {none}", *told[1:]]
    notes[-1] = f"{notes[-1].removesuffix('.')}{several}."
    if any(column.other_starts for column in columns):
        notes.append("The settings began with different start models: each is compared with its own.")
    return notes


def print_tax(columns: Sequence[TaxColumn]) -> None:
    """Print a line for each benchmark and setting, and what is told from the start model."""
    from rich.text import Text

    from alignzoo.system.console import make_console
    from alignzoo.system.tables import plain_table

    if not columns:
        return
    table = plain_table("alignment tax", "items", "setting", "start", "after", "to start (95 %)", collapse_padding=True)
    for column in columns:
        heads = column.metric.label, f"{column.items:,}"
        for place, name in enumerate(column.values):
            cells = name, column.format_start(), column.format_value(name), column.format_change(name)
            table.add_row(*map(Text, (*(heads if not place else ("", "")), *cells)))
    console = make_console()
    console.print(table)
    for note in describe_tax(columns):
        console.print(Text(note), soft_wrap=True)


def make_tax_cells(columns: Sequence[TaxColumn], name: str) -> dict[str, float]:
    """Return what a table's row of the setting holds: each number, the start's, and the change with its ends."""
    cells: dict[str, float] = {}
    for column in columns:
        if name in column.values:
            label, change = column.metric.label, column.changes[name]
            parts = (column.values[name], column.start, change.value, change.low, change.high)
            ends = ("", " start", " change", " change_low", " change_high")
            cells |= {f"{label}{end}": part for end, part in zip(ends, parts, strict=True)}
    return cells

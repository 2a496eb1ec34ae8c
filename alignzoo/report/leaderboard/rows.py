"""Makes the rows of a leaderboard: one for each method and setting, its seeds folded."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignzoo.config.keys import MODEL_SOURCES, STAGE_INPUTS, key_of
from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import Estimate
from alignzoo.report.leaderboard.collapse import Collapse, find_collapse
from alignzoo.report.leaderboard.seeds import fold
from alignzoo.runs.contents import is_number
from alignzoo.runs.folder import Run

#: Keys of the configuration that change neither training nor measurement.
NO_SETTING = ("seed", "prune.", "judge.second.", "telemetry", "evaluate.shown", "tracker.", "hydra.")


@dataclass(frozen=True)
class Row:
    """One method and setting."""

    method: str
    setting: str
    """The overrides that set it apart from the others; empty where its method does."""

    runs: tuple[Run, ...]
    """Its finished runs, one a seed."""

    numbers: Mapping[str, Estimate]
    before: Mapping[str, float]
    validation: Mapping[str, float]
    """The numbers on validation rows; empty where a seed has none."""

    cost: Mapping[str, float]
    collapsed: Collapse | None
    """Why its numbers mislead, where they do."""

    other_data: str = ""
    """Which rows are not those of most other settings: ``training rows``, ``held-out rows`` or both; else empty."""

    kept_out: str = ""
    """Why it is not compared with the others; empty where it is."""

    difference: Estimate | None = None
    """Of the board's number, to the best setting or the baseline, its interval simultaneous with the others'; None
    for that one itself, and where it is not compared."""

    equal: bool = False
    """Whether no prompt at all differs from the best, or the baseline."""

    equivalent: bool = False
    """Whether the difference is smaller than the one that was asked for, by two one-sided tests."""

    best: bool = False
    baseline: bool = False

    @property
    def name(self) -> str:
        """Method and setting, as sentences and plots name it."""
        return f"{self.method} {self.setting}".strip()

    @property
    def seeds(self) -> int:
        """How many seeds were folded."""
        return len(self.runs)

    @property
    def noise(self) -> bool | None:
        """Whether the difference may be noise; None for the best setting, which has none."""
        return None if self.difference is None else self.difference.is_zero


def make_rows(runs: Sequence[Run], labels: Mapping[Run, str]) -> list[Row]:
    """Return a row for each method and setting of the finished ``runs``, in their order."""
    groups: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for run in runs:
        # A seed that ran twice says nothing about seeds: its second run is a setting of its own.
        again = sum(
            run.seed == other.seed for (key, _), group in groups.items() if key == _identify(run) for other in group
        )
        groups[_identify(run), again].append(run)
    names = _make_unique(groups, labels)
    return [_make_row(names[key], group) for key, group in groups.items()]


def label_runs(runs: Sequence[Run], seeds: bool) -> dict[Run, str]:
    """Return for each run the overrides that not all share, without the method's and, unless asked for, the seed's."""
    known = [set(run.overrides) for run in runs if run.overrides != (run.folder.name,)]
    shared = set.intersection(*known) if known else set()
    dropped = ("method=", "hydra.", "tracker", *(() if seeds else ("seed=",)))
    return {
        run: " ".join(
            word.lstrip("+").removeprefix("method.")
            for word in run.overrides
            if word not in shared and not word.startswith(dropped) and not (run.is_stage and _only_places_model(word))
        )
        for run in runs
    }


def _only_places_model(word: str) -> bool:
    """Tell whether a word only places the model of another stage."""
    return key_of(word) in STAGE_INPUTS or word in [f"model.{source}=null" for source in MODEL_SOURCES]


def _identify(run: Run) -> str:
    """Return the same text for two runs that differ in nothing but the seed."""
    dropped = (*NO_SETTING, *STAGE_INPUTS) if run.is_stage else NO_SETTING
    settings: Any = {key: value for key, value in run.config.items() if not key.startswith(dropped)}
    if not settings:
        settings = [word for word in run.overrides if not word.startswith(NO_SETTING)]
    return json.dumps([run.method, settings], sort_keys=True, default=str)


def _make_unique(
    groups: Mapping[tuple[str, int], Sequence[Run]], labels: Mapping[Run, str]
) -> dict[tuple[str, int], str]:
    """Return each group's setting; where two would be called the same, their folders' names tell them apart."""
    names = {key: labels[group[0]] for key, group in groups.items()}
    called = defaultdict(list)
    for key, group in groups.items():
        called[group[0].method, names[key]].append(key)
    for keys in called.values():
        if len(keys) > 1:
            names |= {key: f"{names[key]} ({_locate(groups[key][0])})".strip() for key in keys}
    return names


def _locate(run: Run) -> str:
    return f"{run.folder.resolve().parent.name}/{run.folder.resolve().name}"


def _make_row(setting: str, runs: Sequence[Run]) -> Row:
    results = [run.result for run in runs if run.result is not None]
    measured = [key for key in NUMBERS if all(key in result["after"] for result in results)]
    selecting = [result.get("validation", {}).get("after", {}) for result in results]
    return Row(
        method=runs[0].method,
        setting=setting,
        runs=tuple(runs),
        numbers={key: fold(key, [_read_estimate(result, key) for result in results]) for key in measured},
        before={key: statistics.fmean(result["before"][key] for result in results) for key in measured},
        validation={
            key: statistics.fmean(numbers[key] for numbers in selecting)
            for key in measured
            if all(key in numbers for numbers in selecting)
        },
        cost=_average_cost([result.get("cost", {}) for result in results]),
        collapsed=find_collapse(results, runs[0].lines),
    )


def _read_estimate(result: Mapping[str, Any], key: str) -> Estimate:
    return Estimate(result["after"][key], *result["intervals"][key])


def _average_cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean over seeds of what all of them know."""
    keys = [key for key in costs[0] if all(is_number(cost.get(key)) for cost in costs)]
    return {key: statistics.fmean(cost[key] for cost in costs) for key in keys}

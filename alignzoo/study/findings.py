"""Compares the winners on the test rows: with the baseline, with each other, and for equality, all at once."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import LEVEL, Column, Estimate, student
from alignzoo.evaluate.metrics import collect_values
from alignzoo.evaluate.simultaneous import Comparisons, compare_settings
from alignzoo.report.leaderboard.comparable import keep_out
from alignzoo.report.leaderboard.comparisons import collect_shared
from alignzoo.report.leaderboard.rows import Row, make_rows
from alignzoo.runs.folder import Run
from alignzoo.study.settings import START, Settings

BETTER, WORSE, EQUAL, OPEN = "better", "worse", "equal", "not distinguished"


@dataclass(frozen=True)
class Finding:
    """What the test says of one method."""

    method: str
    value: float
    """Of the study's number, mean over seeds and prompts."""

    row: Row | None = None
    """Its runs folded; None for the start model, and for made-up values."""

    difference: Estimate | None = None
    """To the baseline, simultaneous with the others'; None for the baseline itself."""

    verdict: str = ""
    """Beside the baseline: better, worse, equal or not distinguished; empty for the baseline."""

    may_be_best: bool = True
    """Whether no other method is better than it, at 95 % for all pairs at once."""


@dataclass(frozen=True)
class Findings:
    """What the test says."""

    methods: Sequence[Finding]
    """Best first, the baseline among them; the start model only as a baseline."""

    prompts: int
    smallest: float | None
    """Difference to the baseline that so many prompts and seeds show in 80 %."""

    kept_out: Mapping[str, str]
    """Why a method is not compared."""

    @property
    def baseline(self) -> Finding | None:
        """The one that all others are compared with; None where its runs failed."""
        return next((one for one in self.methods if one.difference is None), None)

    @property
    def possible_best(self) -> list[str]:
        """The methods of which each may be the best."""
        return [one.method for one in self.methods if one.method != START and one.may_be_best]


def read_findings(runs: Mapping[str, Sequence[Run]], settings: Settings) -> Findings | None:
    """Return what the finished runs of the test say, each method's seeds folded; None where nothing can be compared.

    A method whose runs differ from the others' in start model, prompts or length of answers is kept out.
    """
    by = settings.number
    every = [run for found in runs.values() for run in found]
    rows = [row for row in make_rows(every, dict.fromkeys(every, "")) if by in row.numbers]
    if not rows:
        return None
    rows = keep_out(rows, by)
    compared = [row for row in rows if not row.kept_out]
    values, prompts = collect_shared(compared, by) if compared else ([], [])
    if not prompts:
        return None
    named = {row.method: column for row, column in zip(compared, values, strict=True)}
    if settings.baseline == START:
        named = {START: _measure_start(compared, by), **named}
    found = compare_methods(named, prompts, settings)
    folded = {row.method: row for row in compared}
    methods = [_with_row(one, folded.get(one.method)) for one in found.methods]
    return Findings(methods, found.prompts, found.smallest, {row.method: row.kept_out for row in rows if row.kept_out})


def _with_row(finding: Finding, row: Row | None) -> Finding:
    return Finding(finding.method, finding.value, row, finding.difference, finding.verdict, finding.may_be_best)


def _measure_start(rows: Sequence[Row], by: str) -> Column:
    """Return what the start model has on the prompts that all runs share, (1, prompts)."""
    runs = [run.by_prompt for row in rows for run in row.runs]
    shared = [key for key in runs[0] if all(key in run for run in runs)]
    found = collect_values(by, [runs[0][key] for key in shared], "before")
    return np.zeros((1, len(shared))) if found is None else found[None]


def compare_methods(values: Mapping[str, Column], prompts: Sequence[Hashable], settings: Settings) -> Findings:
    """Compare methods by their values, each (seeds, prompts).

    Two families of comparisons, each right at 95 % as a whole: those with the baseline, which say what is better,
    worse or equal, and those of all pairs, which leave the set of methods that may be the best.
    """
    sign = -1.0 if NUMBERS[settings.number].better == "low" else 1.0
    unit = 1.0 if NUMBERS[settings.number].kind == "share" else settings.assume["prompts"]
    names = list(values)
    anchor = names.index(settings.baseline) if settings.baseline in names and len(names) > 1 else None
    against = compare_settings([*values.values()], prompts, anchor, unit) if anchor is not None else None
    methods = [name for name in names if name != START]
    pairs = compare_settings([values[name] for name in methods], prompts, None, unit) if len(methods) > 1 else None
    found = []
    for place, name in enumerate(names):
        beside = None if against is None or place == anchor else against.subtract(place, anchor or 0)
        verdict = _judge(against, place, anchor or 0, sign, unit, settings) if against and beside else ""
        best = pairs is None or name == START or not _is_beaten(pairs, methods.index(name), sign)
        found.append(Finding(name, float(values[name].mean()), None, beside, verdict, best))
    found.sort(key=lambda one: -sign * one.value)
    return Findings(found, len(set(prompts)), None if against is None else against.smallest, {})


def _judge(found: Comparisons, one: int, baseline: int, sign: float, unit: float, settings: Settings) -> str:
    distance, difference = settings.question.distance or 0.0, found.subtract(one, baseline)
    if not difference.is_zero:
        return BETTER if sign * difference.value > 0 else WORSE
    same = found.is_equal(one, baseline) and _bound_unseen(found.prompts, unit) < distance
    return EQUAL if same or found.is_within(one, baseline, distance) else OPEN


def _bound_unseen(prompts: int, unit: float) -> float:
    """Return how far methods may differ that differ on none of the prompts, whatever the seed.

    It is half the adjusted interval of :mod:`~alignzoo.evaluate.simultaneous`, at 90 %, of prompts that move by
    ``unit``.
    """
    return unit * math.sqrt(2 / (prompts * (prompts - 1))) * student(prompts - 1, LEVEL) if prompts > 1 else math.inf


def _is_beaten(pairs: Comparisons, one: int, sign: float) -> bool:
    """Tell whether another method is better than this one."""
    others = [place for place in range(len(pairs.means)) if place != one]
    differences = [pairs.subtract(other, one) for other in others]
    return any(not found.is_zero and sign * found.value > 0 for found in differences)

"""Counts how often judges prefer runs to the start model and to each other, and how far two judges agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.evaluate.agreement import summarise_agreement
from alignzoo.evaluate.intervals import LEVEL, count_wins_needed, sign_test, wilson
from alignzoo.evaluate.length_control import estimate_controlled
from alignzoo.evaluate.verdicts import JudgeStopped, judge_pairs

if TYPE_CHECKING:
    from alignzoo.plugin.judge import Judge

START = "start"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Answer = Mapping[str, Any]
Verdicts = Sequence[float | None]


def judge_columns(
    judge: Judge, name: str, prompts: list[str], columns: Sequence[Sequence[Answer]]
) -> list[dict[str, Any]]:
    """Judge every run against the start model, and two runs against each other."""
    pairs = [(place, 0) for place in range(1, len(columns))] + ([(1, 2)] if len(columns) == 3 else [])
    names = [START, *LETTERS]
    found = []
    for one, other in pairs:
        sides = [[answer["text"] for answer in columns[place]] for place in (one, other)]
        verdicts: Verdicts
        stopped = None
        try:
            verdicts = judge_pairs(judge, prompts, *sides)
        except JudgeStopped as error:
            verdicts, stopped = error.verdicts, str(error)
        compared = {"judge": name, "of": names[one], "against": names[other], "verdicts": verdicts}
        found.append({**compared, **_tally(verdicts), "controlled": _control(verdicts, *sides)})
        if stopped:
            found[-1]["stopped"] = stopped
            break
    return found


def _tally(verdicts: Verdicts) -> dict[str, Any]:
    known = [verdict for verdict in verdicts if verdict is not None]
    low, high = wilson(sum(known), len(known))
    counts = {name: known.count(value) for name, value in (("won", 1.0), ("tied", 0.5), ("lost", 0.0))}
    value = sum(known) / len(known) if known else None
    sure = sign_test(counts["won"], counts["lost"]) <= 1 - LEVEL
    needed = count_wins_needed(len(known))
    return {"value": value, "low": low, "high": high, "sure": sure, "judged": len(known), "needed": needed, **counts}


def _control(verdicts: Verdicts, one: Sequence[str], other: Sequence[str]) -> dict[str, float] | None:
    """Return the win rate at equal length; None where nothing was judged."""
    rows = zip(verdicts, one, other, strict=True)
    known = np.array([(v, len(a) - len(b)) for v, a, b in rows if v is not None], float)
    return asdict(estimate_controlled(known[:, 0], known[:, 1])) if len(known) else None


def compare_judges(ids: Sequence[str], wins: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how far two judges agree, for each comparison that both have judged."""
    first, second = ([entry for entry in wins if entry["judge"] == name] for name in _list_names(wins))
    found = []
    for one, other in zip(first, second, strict=False):  # a judge that stopped has fewer
        rows = zip(ids, one["verdicts"], other["verdicts"], strict=True)
        agreement = summarise_agreement([{"id": key, "after": {"win": a, "win_second": b}} for key, a, b in rows])
        if agreement:
            found.append({"of": one["of"], "against": one["against"], **agreement})
    return found


def _list_names(wins: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(entry["judge"] for entry in wins))

"""Finds the settings that cannot be compared with most others, and says why: they are kept out of the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alignzoo.evaluate.metrics import collect_values
from alignzoo.report.leaderboard.rows import Row
from alignzoo.report.leaderboard.same_data import find_odd
from alignzoo.runs.folder import Run

SAME = 0.01  #: relative difference of a start model's log-probabilities that another machine or precision explains
ROUNDING = 1e-6  #: of a number that is computed again from the same lines


def keep_out(rows: Sequence[Row], by: str) -> list[Row]:
    """Name what keeps a row with number ``by`` from being compared, as ``kept_out``."""
    reasons: dict[int, list[str]] = {place: [] for place in range(len(rows))}
    measured = [place for place, row in enumerate(rows) if by in row.numbers]
    for place in measured:
        wrong = [run for run in rows[place].runs if _contradicts(run, by)]
        if wrong:
            reasons[place].append(f"result.json of {wrong[0].folder} contradicts its answers.jsonl")
    sound = [place for place in measured if not reasons[place]]
    for what, agree in (
        ("another start model", _same_start),
        ("another evaluate.max_new_tokens", _same_limit),
        ("other held-out prompts", _share_prompts),
        *([("another reward", _same_reward)] if by == "reward" else []),
    ):
        for odd in find_odd([rows[place] for place in sound], agree):
            reasons[sound[odd]].append(what)
    return [replace(row, kept_out=" and ".join(reasons[place])) for place, row in enumerate(rows)]


def _contradicts(run: Run, by: str) -> bool:
    """Tell whether the number is not what the lines say."""
    values, told = collect_values(by, run.lines), (run.result or {})["after"][by]
    return values is None or not math.isclose(float(values.mean()), told, rel_tol=ROUNDING, abs_tol=ROUNDING)


def _same_limit(one: Row, other: Row) -> bool:
    key = "evaluate.max_new_tokens"
    first, second = ({run.config.get(key) for run in row.runs} for row in (one, other))
    return first == second


def _same_reward(one: Row, other: Row) -> bool:
    first, second = (
        [{key: value for key, value in run.config.items() if key.startswith("reward.")} for run in row.runs]
        for row in (one, other)
    )
    return all(some == first[0] for some in (*first, *second))


def _same_start(one: Row, other: Row) -> bool:
    """Ask the models' identities, which differ between machines, and then what the models did."""
    first, second = ({_identify_start(run) for run in row.runs} for row in (one, other))
    return first == second or _same_before(one.runs[0], other.runs[0])


def _identify_start(run: Run) -> Any:
    result = run.result or {}
    return result.get("against", result.get("start", {})).get("identity")


def _same_before(one: Run, other: Run) -> bool:
    shared = one.by_prompt.keys() & other.by_prompt.keys()
    return all(_agree(one.by_prompt[key], other.by_prompt[key]) for key in shared)


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two lines may be of one start model: its log-probabilities agree, or its texts where it has none."""
    before = one["before"], other["before"]
    if one.get("chosen_tokens") is None or other.get("chosen_tokens") is None:
        return bool(before[0].get("text") == before[1].get("text"))
    return all(math.isclose(*(side[key] for side in before), rel_tol=SAME) for key in ("chosen", "rejected"))


def _share_prompts(one: Row, other: Row) -> bool:
    """Tell whether both have more than half of either's prompts in common."""
    first, second = (set.intersection(*(set(run.by_prompt) for run in row.runs)) for row in (one, other))
    return 2 * len(first & second) > max(len(first), len(second))

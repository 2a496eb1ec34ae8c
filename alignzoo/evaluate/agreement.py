"""Says how far two judges agree, beyond what chance alone would make of their verdicts.

Cohen's kappa (Cohen, 1960) over the three verdicts win, tie and loss: (p - e) / (1 - e), where p is the share of equal
verdicts and e the share that two judges would have by chance who say win, tie and loss as often as these two do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from alignzoo.evaluate.intervals import LEVEL, Column, Estimate, bootstrap_statistic, sign_test, wilson

VERDICTS = (1.0, 0.5, 0.0)

Line = Mapping[str, Any]


def summarise_agreement(lines: Sequence[Line]) -> dict[str, Any] | None:
    """Return how far the two judges agree on these lines of ``answers.jsonl``; None where not both judged one.

    ``kappa`` (null where it is undefined: both judges gave all lines the same verdict) with ``low`` and ``high``,
    ``equal`` of ``verdicts``, and by how many ``prompts``: ``first_higher`` and ``second_higher``, on which one judge
    preferred the run more than the other did. Lines of several runs may have the same prompt: it counts once.
    """
    judged = [line for line in lines if _read(line, "win") is not None and _read(line, "win_second") is not None]
    if not judged:
        return None
    pairs = np.array([[_read(line, "win"), _read(line, "win_second")] for line in judged], float)
    _, prompts = np.unique([f"{line['id']}\0{line.get('prompt', '')}" for line in judged], return_inverse=True)
    found = estimate_kappa(pairs[:, 0], pairs[:, 1], prompts)
    favours = np.bincount(prompts, pairs[:, 0] - pairs[:, 1])
    kappa = {"kappa": found.value, "low": found.low, "high": found.high}
    return {
        **(dict.fromkeys(kappa) if math.isnan(found.value) else kappa),
        "equal": int((pairs[:, 0] == pairs[:, 1]).sum()),
        "verdicts": len(judged),
        "prompts": len(favours),
        "first_higher": int((favours > 0).sum()),
        "second_higher": int((favours < 0).sum()),
    }


def _read(line: Line, key: str) -> float | None:
    found = line["after"].get(key)
    return found if found in VERDICTS else None


def estimate_kappa(first: Column, second: Column, prompts: Column) -> Estimate:
    """Return Cohen's kappa, with a percentile interval over prompts; NaN where it is undefined.

    The interval is never narrower than Wilson's for the share of equal verdicts on so many prompts: judges that agree
    on each of a few prompts may disagree on the next.

    Args:
        first: (verdicts,), one judge's: 1, 0.5 or 0.
        second: (verdicts,), the other's on the same pairs.
        prompts: (verdicts,), the place of each one's prompt: 0, 1, ...
    """
    cells = [(first == one) & (second == other) for one in VERDICTS for other in VERDICTS]
    counts = np.stack([np.bincount(prompts, cell) for cell in cells], 1)
    found = bootstrap_statistic(counts, _compute_kappa)
    if math.isnan(found.value):
        return found
    share, count = float((first == second).mean()), len(counts)
    unequal = (1 - share) / (1 - found.value) if found.value < 1 else _expect_unequal(counts.sum(0))
    low, high = (1 - (1 - end) / unequal for end in wilson(share * count, count))
    return Estimate(found.value, max(-1.0, min(found.low, low)), min(1.0, max(found.high, high)))


def _compute_kappa(tables: Column) -> Column:
    """Return kappa of each table of counts, (samples, 9)."""
    by_verdict = tables.reshape(-1, 3, 3)
    total = by_verdict.sum((1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        equal = np.trace(by_verdict, axis1=1, axis2=2) / total
        chance = (by_verdict.sum(2) * by_verdict.sum(1)).sum(1) / total**2
        return np.asarray((equal - chance) / (1 - chance))


def _expect_unequal(table: Column) -> float:
    """Return 1 - e of one table of counts, (9,)."""
    counts = table.reshape(3, 3)
    return float(1 - (counts.sum(1) * counts.sum(0)).sum() / counts.sum() ** 2)


def is_chance(found: Mapping[str, Any]) -> bool:
    """Tell whether the agreement may be chance: kappa's interval does not lie above zero, or there is none."""
    return found["kappa"] is None or found["low"] <= 0


def describe_agreement(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences on how far the judges agree, and on whether one of them prefers the run more often."""
    text = f"The two judges agree on {found['equal']} of {found['verdicts']} verdicts"
    if found["kappa"] is None:
        yield f"{text}; both gave all of them the same, so that Cohen's kappa is undefined."
        return
    text += f": Cohen's kappa {found['kappa']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
    if found["high"] < 0:
        yield f"{text}. They disagree more than two judges would who decide by chance."
    elif found["low"] <= 0:
        yield f"{text}. That may be no more than two judges would agree who decide by chance."
    else:
        yield f"{text}."
    more, fewer = found["first_higher"], found["second_higher"]
    if sign_test(more, fewer) <= 1 - LEVEL:
        higher, lower = ("first", "second") if more > fewer else ("second", "first")
        yield (
            f"The {higher} judge prefers the run more than the {lower} does on {max(more, fewer)} prompts and less on "
            f"{min(more, fewer)}: more than chance allows, so a win rate depends on who judges."
        )

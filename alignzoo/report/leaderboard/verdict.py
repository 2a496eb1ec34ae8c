"""What may be said of a leaderboard in a sentence or two."""

from __future__ import annotations

from collections.abc import Sequence

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import Estimate
from alignzoo.report.leaderboard.rows import Row

MOST = 4  #: names in a sentence


def tell_verdict(rows: Sequence[Row], by: str) -> str:
    """Return who won; that none did, where others are within noise; and what is wrong with whoever leads."""
    best = next((row for row in rows if row.best), None)
    if best is None:
        return f"No run measured {NUMBERS[by].label}." if rows else "No run finished."
    if best.collapsed:
        return f"No winner: every setting collapsed. {_leads(best, by)}; {best.collapsed.brief}."
    if not NUMBERS[by].better:
        return f"{_leads(best, by)}; which way is better depends, so there is no winner."
    ahead = rows[0].collapsed
    warning = f" {_leads(rows[0], by)}, but {ahead.brief}." if ahead else ""
    return _winner(best, rows, by, " of those that did not collapse" if ahead else "") + warning


def _winner(best: Row, rows: Sequence[Row], by: str, among: str) -> str:
    others = [row for row in rows if not row.best and not row.collapsed]
    near = [row for row in others if row.noise]
    unknown = [row for row in others if row.noise is None and by in row.numbers]
    what = NUMBERS[by].label
    if near and all(row.equal for row in near):
        return f"No clear winner{among}: {_listed([best, *near])} are equal in {what}, {told(best.numbers[by], by)}."
    if near:
        first = [best, *(row for row in near if row.numbers[by].value == best.numbers[by].value)]
        noise = f"No clear winner{among}: {_listed([best, *near])} are within noise in {what}"
        if len(first) > len(near):
            return f"{noise}, all {told(best.numbers[by], by)}."
        return f"{noise}. {_listed(first)} {'are' if len(first) > 1 else 'is'} ahead, {told(best.numbers[by], by)}."
    caveats = f"; {_listed(unknown)} cannot be compared with it, since no held-out prompt is shared" if unknown else ""
    if best.other_data:
        caveats += f"; it had other {best.other_data} than the others"
    if not [row for row in others if row.noise is False]:
        return f"{best.name} has nothing to be compared with: {what} {told(best.numbers[by], by)}{caveats}."
    return f"{best.name} wins{among}: {what} {told(best.numbers[by], by)}, and no other is within noise{caveats}."


def _leads(row: Row, by: str) -> str:
    first = "lowest" if NUMBERS[by].better == "low" else "highest"
    return f"{row.name} has the {first} {NUMBERS[by].label}, {told(row.numbers[by], by)}"


def told(found: Estimate, by: str) -> str:
    """Return a value with its interval, as 94% (86% to 97%)."""
    value, low, high = (NUMBERS[by].form.format(part) for part in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def _listed(rows: Sequence[Row]) -> str:
    names = [row.name for row in rows]
    if len(names) > MOST:
        names = [*names[: MOST - 1], f"{len(names) - MOST + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]

"""Writes a leaderboard's verdict in a sentence or two."""

from __future__ import annotations

from collections.abc import Sequence

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import Estimate
from alignzoo.report.leaderboard.rows import Row

MOST = 4  #: names in a sentence


def write_verdict(rows: Sequence[Row], by: str) -> str:
    """Return which setting won, or why none did, and a warning where the leader collapsed."""
    best = next((row for row in rows if row.best), None)
    if best is None:
        return f"No run measured {NUMBERS[by].label}." if rows else "No run finished."
    if best.collapsed:
        return f"No winner: every setting collapsed. {_describe_leader(best, by)}; {best.collapsed.brief}."
    if not NUMBERS[by].better:
        return f"{_describe_leader(best, by)}; which way is better depends, so there is no winner."
    ahead = rows[0].collapsed
    warning = f" {_describe_leader(rows[0], by)}, but {ahead.brief}." if ahead else ""
    return _describe_winner(best, rows, by, " of those that did not collapse" if ahead else "") + warning


def _describe_winner(best: Row, rows: Sequence[Row], by: str, among: str) -> str:
    others = [row for row in rows if not row.best and not row.collapsed]
    near = [row for row in others if row.noise]
    unknown = [row for row in others if row.noise is None and by in row.numbers]
    what, value = NUMBERS[by].label, format_estimate(best.numbers[by], by)
    if near and all(row.equal for row in near):
        return f"No clear winner{among}: {_join_names([best, *near])} are equal in {what}, {value}."
    if near:
        first = [best, *(row for row in near if row.numbers[by].value == best.numbers[by].value)]
        noise = f"No clear winner{among}: {_join_names([best, *near])} are within noise in {what}"
        if len(first) > len(near):
            return f"{noise}, all {value}."
        return f"{noise}. {_join_names(first)} {'are' if len(first) > 1 else 'is'} ahead, {value}."
    caveats = (
        f"; {_join_names(unknown)} cannot be compared with it, since no held-out prompt is shared" if unknown else ""
    )
    if best.other_data:
        caveats += f"; it had other {best.other_data} than the others"
    if not [row for row in others if row.noise is False]:
        return f"{best.name} has nothing to be compared with: {what} {value}{caveats}."
    return f"{best.name} wins{among}: {what} {value}, and no other is within noise{caveats}."


def _describe_leader(row: Row, by: str) -> str:
    first = "lowest" if NUMBERS[by].better == "low" else "highest"
    return f"{row.name} has the {first} {NUMBERS[by].label}, {format_estimate(row.numbers[by], by)}"


def format_estimate(found: Estimate, by: str) -> str:
    """Return a value with its interval, as 94% (86% to 97%)."""
    value, low, high = (NUMBERS[by].form.format(part) for part in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def _join_names(rows: Sequence[Row]) -> str:
    names = [row.name for row in rows]
    if len(names) > MOST:
        names = [*names[: MOST - 1], f"{len(names) - MOST + 1} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]

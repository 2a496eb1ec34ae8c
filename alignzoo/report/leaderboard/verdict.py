"""Writes a leaderboard's verdict in a sentence or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.intervals import Estimate
from alignzoo.report.leaderboard.comparisons import Question, format_size
from alignzoo.report.leaderboard.rows import Row

MOST = 4  #: names in a sentence


def write_verdict(rows: Sequence[Row], question: Question) -> str:
    """Return what won, or why nothing did, or how the settings stand to the baseline; a warning of what collapsed."""
    by = question.by
    compared = [row for row in rows if by in row.numbers and not row.kept_out]
    if not compared:
        return f"No run measured {NUMBERS[by].label}." if rows else "No run finished."
    baseline = next((row for row in compared if row.baseline), None)
    if baseline is not None:
        return " ".join(_describe_against(baseline, compared, question))
    best = next((row for row in compared if row.best), None)
    if best is None:
        return "The settings share no held-out prompt: none is compared."
    if best.collapsed:
        return f"No winner: every setting collapsed. {_describe_leader(best, by)}; {best.collapsed.brief}."
    if not NUMBERS[by].better:
        return f"{_describe_leader(best, by)}; which way is better depends, so there is no winner."
    above = compared[0].collapsed
    warning = f" {_describe_leader(compared[0], by)}, but {above.brief}." if above else ""
    return _describe_winner(best, compared, question, " of those that did not collapse" if above else "") + warning


def _describe_winner(best: Row, rows: Sequence[Row], question: Question, among: str) -> str:
    others = [row for row in rows if not row.best and not row.collapsed]
    near = [row for row in others if row.noise]
    what, value = NUMBERS[question.by].label, format_estimate(best.numbers[question.by], question.by)
    if near:
        return f"No clear winner{among}: {_describe_near(best, near, question)}."
    caveat = f"; it had other {best.other_data} than the others" if best.other_data else ""
    if not others:
        return f"{best.name} has nothing to be compared with: {what} {value}{caveat}."
    return f"{best.name} wins{among}: {what} {value}, and no other is within noise{caveat}."


def _describe_near(best: Row, near: Sequence[Row], question: Question) -> str:
    by = question.by
    what, value = NUMBERS[by].label, format_estimate(best.numbers[by], by)
    names = _join_names([best, *near])
    if all(row.equal for row in near):
        return f"{names} are equal in {what}, {value}"
    if all(row.equivalent for row in near):
        return f"{names} are equal in {what} within {describe_within(question)}"
    same = f", all {value}" if all(row.numbers[by].value == best.numbers[by].value for row in near) else ""
    return f"{names} are within noise in {what}{same}, and each may be the best"


def _describe_against(baseline: Row, rows: Sequence[Row], question: Question) -> Iterator[str]:
    """Yield how many settings are told from the baseline, and which: a collapsed one is named as such."""
    number = NUMBERS[question.by]
    yield f"Against {baseline.name} in {number.label}, {format_estimate(baseline.numbers[question.by], question.by)}:"
    words = {"high": ("better", "worse"), "low": ("worse", "better"), "": ("higher", "lower")}[number.better]
    others = [row for row in rows if row.difference is not None]
    told = {
        words[0]: [row for row in others if row.difference and row.difference.low > 0],
        words[1]: [row for row in others if row.difference and row.difference.high < 0],
        f"equal within {describe_within(question)}": [row for row in others if row.noise and row.equivalent],
        "within noise": [row for row in others if row.noise and not row.equivalent],
    }
    parts = [f"{_join_names(found)} {_be(found)} {what}" for what, found in told.items() if found]
    yield f"{'; '.join(parts) or 'there is nothing to compare'}."
    yield from (f"{row.name} {row.collapsed.brief}." for row in (baseline, *others) if row.collapsed)


def _be(rows: Sequence[Row]) -> str:
    return "are" if len(rows) > 1 else "is"


def describe_within(question: Question) -> str:
    """Return the distance within which settings count as equal, as +-3.0 points; empty where none was given."""
    return "" if question.distance is None else f"\u00b1{format_size(question.distance, question.by)}"


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

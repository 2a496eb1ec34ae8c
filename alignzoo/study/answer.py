"""Writes a study's answer in a sentence or two: never more than its intervals say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.leaderboard.comparisons import format_size
from alignzoo.study.findings import BETTER, EQUAL, OPEN, WORSE, Finding, Findings
from alignzoo.study.settings import START, Settings


def write_answer(findings: Findings | None, settings: Settings, is_complete: bool) -> str:
    """Return what the test says; of a study that still runs, that it does."""
    if findings is None:
        return "The test has no result." if is_complete else "The study runs: the test rows were not looked at yet."
    text = " ".join(_write_sentences(findings, settings))
    return text if is_complete else f"Provisional, as runs of the test are missing: {text}"


def _write_sentences(findings: Findings, settings: Settings) -> Iterator[str]:
    label, best = NUMBERS[settings.number].label, findings.possible_best
    count = sum(one.method != START for one in findings.methods)
    if count > 1 and len(best) == 1:
        yield f"{best[0]} is the best in {label}: it is ahead of each other method on the test rows."
    elif count > 1:
        every = len(best) == count
        yield f"No single best in {label}: {join_names(best)} may each be the best" + (
            ", and none is told from another." if every and count > 2 else "."
        )
    yield from _describe_beside(findings, settings)
    yield from (f"{one.method} {one.row.collapsed.brief}." for one in findings.methods if one.row and one.row.collapsed)


def _describe_beside(findings: Findings, settings: Settings) -> Iterator[str]:
    """Yield how the others stand to the baseline."""
    baseline = findings.baseline
    others = [one for one in findings.methods if one.difference is not None]
    if baseline is None or not others:
        if settings.baseline not in [one.method for one in findings.methods]:
            yield f"The baseline {name_method(settings.baseline)} has no result to compare with."
        return
    parts = []
    for verdict in (BETTER, WORSE, EQUAL, OPEN):
        names = [name_method(one.method) for one in others if one.verdict == verdict]
        if names:
            parts.append(f"{join_names(names)} {'are' if len(names) > 1 else 'is'} {_phrase(verdict, settings)}")
    yield f"Beside {name_method(baseline.method)}: {'; '.join(parts)}."


def _phrase(verdict: str, settings: Settings) -> str:
    if verdict == EQUAL:
        return f"equal within ±{format_size(settings.question.distance or 0.0, settings.number)}"
    return verdict


def describe_gain(one: Finding, settings: Settings) -> str:
    """Return the difference to the baseline with its interval, as +4.2 points (+1.0 to +7.4); empty for itself."""
    if one.difference is None:
        return ""
    percent = NUMBERS[settings.number].form.endswith("%}")
    form = "{:+.1f}" if percent else NUMBERS[settings.number].form.replace(":+", ":").replace(":", ":+")
    scale = 100.0 if percent else 1.0
    value, low, high = (
        form.format(scale * part) for part in (one.difference.value, one.difference.low, one.difference.high)
    )
    return f"{value}{' points' if percent else ''} ({low} to {high})"


def name_method(method: str) -> str:
    """Return a method's name as sentences have it."""
    return "the start model" if method == START else method


def join_names(names: Sequence[str]) -> str:
    """Return names as a sentence lists them."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)

"""Summarises what changed between the last two columns of a comparison, and what its prompts can and cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alignzoo.evaluate.intervals import LEVEL, wilson
from alignzoo.evaluate.simultaneous import POWER, count_needed

Report = Mapping[str, Any]

CHANGED, CHANCE, SAME, NOT_JUDGED = "changed", "may be chance", "no change", "not judged"


@dataclass(frozen=True)
class AxisChange:
    """How one axis changed, in words: a row of the summary."""

    group: str
    label: str
    before: str
    after: str
    change: str
    """Of a judge: on how many prompts the later column won and lost."""

    interval: str
    """Of the change, at 95 %; of a judge: of the share of prompts won, ties counted half."""

    verdict: str
    """:data:`CHANGED`, :data:`CHANCE`, :data:`SAME` or :data:`NOT_JUDGED`."""

    visible: str
    """The smallest change that so many prompts tell from chance in 80 % of such comparisons; of wins, in all."""


def name_column(column: Report) -> str:
    """Return a column's heading: its letter, and its method where it has one."""
    return f"{column['name']} {column['method']}".strip()


def find_pair(report: Report) -> tuple[Report, Report] | None:
    """Return the two columns whose difference is summarised, the earlier first; None of three runs or more."""
    columns = report["columns"]
    return (columns[-2], columns[-1]) if len(columns) <= 3 else None


def summarise_pair(report: Report) -> list[AxisChange]:
    """Return what changed from the start model to the one run, or from the first run to the second, axis by axis."""
    if find_pair(report) is None:
        return []
    return [*_summarise_wins(report), *(_summarise_axis(axis) for axis in report["axes"])]


def find_judged(judge: str) -> str:
    """Return what the judge of this name judges: ``rule`` conciseness, any other helpfulness."""
    return "conciseness" if judge.split()[0] == "rule" else "helpfulness"  # `rule 2` is the second of two


def _has_judge_of_helpfulness(report: Report) -> bool:
    return any(find_judged(judge["name"]) == "helpfulness" for judge in report["judges"])


def _summarise_wins(report: Report) -> Iterator[AxisChange]:
    """Yield a row for each judge, and one that says so where none was asked about helpfulness."""
    if not _has_judge_of_helpfulness(report):
        yield AxisChange("helpfulness", "helpfulness by a judge", "", "", "", "", NOT_JUDGED, "")
    later, earlier = (column["name"] for column in report["columns"][:-3:-1])
    for entry in report["wins"]:
        if {entry["of"], entry["against"]} != {later, earlier} or entry["value"] is None:
            continue
        won, lost, low, high = entry["won"], entry["lost"], entry["low"], entry["high"]
        if entry["of"] == earlier:
            won, lost, low, high = lost, won, 1 - high, 1 - low
        verdict = CHANGED if entry["sure"] else SAME if won == lost else CHANCE
        visible = f"{entry['needed']} won" if entry["needed"] else "none"
        counts = f"{won} won, {lost} lost"
        yield AxisChange(
            find_judged(entry["judge"]),
            f"judge {entry['judge']}",
            "",
            "",
            counts,
            f"{low:.0%} to {high:.0%}",
            verdict,
            visible,
        )


def _summarise_axis(axis: Report) -> AxisChange:
    found = axis["changes"][-1] if axis["between"] is None and len(axis["values"]) == 2 else axis["between"]
    before, after = (format_value(axis, value) for value in axis["values"][-2:])
    if found is None:
        return AxisChange(axis["group"], axis["label"], before, after, "-", "", SAME, "")
    ends = " to ".join(format_change(axis, found, end).removesuffix(" points") for end in ("low", "high"))
    verdict = CHANGED if found["sure"] else CHANCE if found["value"] else SAME
    smallest = found["smallest"]
    invisible = smallest is None or (axis["whole"] and smallest > 1)  # not even from no completion to all of them
    visible = "none" if invisible else format_change(axis, found, "smallest").lstrip("+")
    return AxisChange(axis["group"], axis["label"], before, after, format_change(axis, found), ends, verdict, visible)


def format_value(axis: Report, found: Report | None) -> str:
    """Return a value as its axis is written; a dash where nothing could be counted."""
    return "-" if found is None else str(axis["form"].format(found["value"]))


def format_change(axis: Report, found: Report | None, end: str = "value") -> str:
    """Return a signed change, or one end of its interval; of shares in points."""
    if found is None:
        return "-"
    points = axis["share"]
    text = f"{100 * found[end]:+.0f}" if points else str(axis["form"].replace("{:", "{:+").format(found[end]))
    text = text if float(text) else f"+{text[1:]}"  # what is rounded to zero has no sign
    return f"{text} points" if points else text


def describe_limits(report: Report) -> Iterator[str]:
    """Yield what so many prompts can and cannot show, as sentences."""
    count, axes = report["count"], len(report["axes"])
    needed = count_needed(1)
    if not _has_judge_of_helpfulness(report):
        yield "Helpfulness was not judged: judge=NAME in the run, or `alignzoo compare --judge NAME`, adds who wins."
    if count < needed:
        yield f"{count} prompts cannot tell any change from chance: at least {needed} must change."
        return
    won = next((entry["needed"] for entry in report["wins"] if entry["needed"] and entry["judged"] == count), None)
    judged = f" A judge's preference is more than chance from {won} of {count} prompts won." if won else ""
    yield (
        f"{count} prompts show a change only where at least {needed} of them change. The column 'visible' has the size "
        f"of change that is seen in {POWER:.0%} of such comparisons.{judged}"
    )
    yield f"Smaller changes may be there: a share of 0% on {count} prompts may be up to {wilson(0, count)[1]:.0%}."
    yield (
        f"Each axis is taken by itself: if none of the {axes} changed, chance alone would mark one on up to "
        f"{min(1.0, axes * (1 - LEVEL)):.0%} of such pages. Another training with another seed is not in the intervals."
    )

"""Shows a comparison of completions, on the terminal and as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from alignzoo.evaluate.agreement import describe_agreement
from alignzoo.report.comparison_summary import (
    CHANGED,
    describe_limits,
    find_judged,
    find_pair,
    format_change,
    format_value,
    name_column,
    summarise_pair,
)
from alignzoo.report.html import write_html
from alignzoo.system.console import make_console
from alignzoo.system.tables import plain_table

Report = Mapping[str, Any]


def print_comparison(report: Report, rows: int) -> None:
    """Print what changed along each axis, what the judges say, and the first ``rows`` prompts with their answers."""
    console = make_console()
    for column in report["columns"][1:]:
        console.print(Text.assemble((name_column(column), "bold"), f"  {column['folder']}"))
    for failed in report["failed"]:
        console.print(Text(f"failed: {failed['folder']}: {failed['reason']}"), soft_wrap=True)
    for note in report["notes"]:
        console.print(Text(f"note: {note}", "yellow"))
    console.print("", _make_axes_table(report), "")
    for line in describe_wins(report):
        console.print(Text(line))
    if len(report["columns"]) == 3:
        console.print("", _make_summary_table(report))
        for line in describe_limits(report):
            console.print(Text(line, "dim"))
    shown = report["prompts"][:rows]
    if shown:
        console.print(_make_answers_table(report, shown))
    if len(shown) < report["count"]:
        console.print(Text(f"{len(shown)} of {report['count']} prompts, the biggest change first", "dim"))


def format_interval(axis: Report, found: Report | None) -> str:
    """Return the ends of a value's interval."""
    return "" if found is None else f"{axis['form'].format(found['low'])} to {axis['form'].format(found['high'])}"


def _make_axes_table(report: Report) -> Table:
    names = [name_column(column) for column in report["columns"]]
    title = f"{report['count']} prompts"
    table = plain_table(title, "", *names)
    group = ""
    for axis in report["axes"]:
        cells = [_make_cell(axis, *pair) for pair in zip(axis["values"], axis["changes"], strict=True)]
        table.add_row(Text("" if axis["group"] == group else axis["group"], "dim"), axis["label"], *cells)
        group = axis["group"]
    table.caption = Text("95 % intervals over prompts; a change in bold, taken by itself, is more than chance", "dim")
    table.caption_justify = "left"
    return table


def _make_cell(axis: Report, found: Report | None, changed: Report | None) -> Text:
    cell = Text(format_value(axis, found))
    if found and changed is None:
        cell.append(f"  ({format_interval(axis, found)})", "dim")
    if changed and changed["value"]:
        cell.append(f"  {format_change(axis, changed)}", "bold" if changed["sure"] else "dim")
    return cell


def _make_summary_table(report: Report) -> Table:
    """Return what changed from the first run to the second; both values stand in the table of the axes."""
    names = [column["name"] for column in report["columns"][-2:]]
    table = plain_table(f"{names[0]} to {names[1]}", "change", "95 %", "", "visible")
    for row in summarise_pair(report):
        verdict = Text(row.verdict, "bold" if row.verdict == CHANGED else "dim")
        table.add_row(*map(Text, (row.label, row.change, row.interval)), verdict, row.visible)
    return table


def describe_wins(report: Report) -> Iterator[str]:
    """Yield the judges' win rates, why one stopped, how far two agree, and their remarks, as sentences."""
    for entry in report["wins"]:
        if entry["value"] is not None:
            sure = "" if entry["sure"] else ", which may be chance"
            yield (
                f"judge {entry['judge']}: {entry['of']} beats {entry['against']} on {entry['value']:.0%} "
                f"({entry['low']:.0%} to {entry['high']:.0%}) of {entry['judged']} prompts: {entry['won']} won, "
                f"{entry['tied']} tied, {entry['lost']} lost{sure}; at equal length {format_controlled(entry)}"
            )
        if "stopped" in entry:
            yield entry["stopped"]
    for found in report["agreement"]:
        for sentence in describe_agreement(found):
            yield f"{found['of']} against {found['against']}: {sentence}"
    for judge, remarks in report["remarks"].items():
        for remark, count in remarks.items():
            yield f"judge {judge}: {count} {remark}"


def format_controlled(entry: Report) -> str:
    """Return the win rate at equal length, with its interval."""
    found = entry["controlled"]
    return f"{found['value']:.0%} ({found['low']:.0%} to {found['high']:.0%})"


def _make_answers_table(report: Report, rows: list[Report]) -> Table:
    table = Table("prompt", *(name_column(column) for column in report["columns"]), show_lines=True)
    for place, column in enumerate(table.columns):
        column.overflow, column.ratio = "fold", 3 if place else 2  # a word wider than its column is broken, not cut
    for row in rows:
        prompt = Text(row["prompt"])
        for verdict in describe_verdicts(report, row):
            prompt.append(f"\n{verdict}", "dim")
        table.add_row(prompt, *(_format_answer(answer) for answer in row["answers"]))
    return table


def _format_answer(answer: Report) -> Text:
    text = Text.assemble(*((piece, "bold" if changed else "") for piece, changed in answer["pieces"]))
    if not answer["text"]:
        text.append("(empty)", "dim")
    text.append(f"\n[{answer['words']} words{'' if answer['ended'] else ', cut off'}]", "dim")
    return text


def describe_verdicts(report: Report, row: Report) -> Iterator[str]:
    """Yield the judges' verdicts on one prompt in words."""
    for entry, verdict in zip(report["wins"], row["verdicts"], strict=True):
        if verdict is not None:
            verb = {1.0: "beats", 0.0: "loses to", 0.5: "ties with"}[verdict]
            by = f" ({entry['judge']})" if len(report["judges"]) > 1 else ""
            yield f"{entry['of']} {verb} {entry['against']}{by}"


def write_comparison(report: Report, file: Path) -> None:
    """Write the comparison as one self-contained HTML file."""
    write_html(
        "comparison.html.jinja",
        file,
        report=report,
        scale=_scale,
        percent="{:.0%}".format,
        name=name_column,
        value=format_value,
        change=format_change,
        interval=format_interval,
        verdicts=describe_verdicts,
        controlled=format_controlled,
        agreement=describe_agreement,
        pair=find_pair(report),
        summary=summarise_pair(report),
        limits=list(describe_limits(report)) if find_pair(report) else [],
        changed=CHANGED,
        judged=find_judged,
    )


def _scale(axis: Report) -> float:
    """Return the right end of an axis's drawing, whose left end is 0: 1 for shares of answers."""
    if axis["whole"]:
        return 1.0
    return max((found["high"] for found in axis["values"] if found), default=0.0) * 1.05 or 1.0

"""Shows the report on a dataset, on the terminal and as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from alignzoo.report.html import svg_element, write_html
from alignzoo.system.console import make_console
from alignzoo.system.tables import plain_table

STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}
VERDICTS = {
    "fine": "it can be trained on",
    "warnings": "it can be trained on; read the warnings first",
    "errors": "a training would stop: fix the errors, or set dataset.bad_rows=drop",
}


def print_report(report: Mapping[str, Any]) -> None:
    """Print counts, lengths, findings, examples and the verdict."""
    console = make_console(soft_wrap=True)
    counts = ", ".join(f"{count:,} {what}" for what, count in report["rows"].items())
    checked_for = f" for method={report['method']} model={report['model']}"
    console.print(Text.assemble((report["dataset"], "bold"), checked_for))
    console.print(Text("\n".join([f"layout: {report['layout']}", *report["unread"], f"rows:   {counts}"])))
    for reason, count in report["reasons"].items():
        console.print(Text(f"        left out {count:,}: {reason}"))
    if report["conversion"]:
        console.print(Text(f"means:  {report['conversion']}"))
    console.print(Text(f"plan:   {report['plan']}\n"))
    console.print(_make_lengths_table(report["quantiles"]), "")
    for finding in report["findings"]:
        console.print(Text(f"{finding['level']}: {_describe(finding)}", style=STYLE[finding["level"]]))
    for example in report["examples"]:
        console.print(Text(f"\nrow {example['row']} ({example['id']}); trained tokens in green", style="bold"))
        for name, text, trained in example["pieces"]:
            console.print(Text.assemble((f"{name}: ", "dim"), (text, "green" if trained else "")))
    console.print(Text(f"\nverdict: {report['verdict']}: {VERDICTS[report['verdict']]}", style="bold"))


def _describe(finding: Mapping[str, Any]) -> str:
    more = " ..." if finding["count"] > len(finding["rows"]) else ""
    rows = f" (rows {', '.join(map(str, finding['rows']))}{more})" if finding["rows"] else ""
    return f"{finding['text']}{rows}"


def _make_lengths_table(quantiles: Mapping[str, Mapping[str, int]]) -> Table:
    shares = next((list(found) for found in quantiles.values() if found), [])
    table = plain_table("tokens", *shares)
    for name, found in quantiles.items():
        table.add_row(name, *(str(found.get(share, "")) for share in shares))
    return table


def write_page(report: Mapping[str, Any], file: Path) -> None:
    """Write the report as one self-contained HTML file."""
    plots = {name: _draw_histogram(values, name) for name, values in report["lengths"].items() if values}
    verdict = VERDICTS[report["verdict"]]
    write_html("data_check.html.jinja", file, report=report, plots=plots, describe=_describe, verdict=verdict)


def _draw_histogram(values: Sequence[int], name: str) -> str:
    """Return an SVG element."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.hist(values, bins=min(40, max(5, len(set(values)))), color="#4c78a8")
    axes.set(xlabel=f"{name} (tokens)", ylabel="rows")
    axes.spines[["top", "right"]].set_visible(False)
    return svg_element(figure)

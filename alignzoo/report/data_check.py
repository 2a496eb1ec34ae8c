"""The report on a dataset, on the terminal and as one HTML page that opens without a network."""

from __future__ import annotations

import importlib.resources
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLE = {"error": "bold red", "warning": "yellow", "note": "dim"}
VERDICTS = {
    "fine": "nothing stands against training on it",
    "warnings": "it can be trained on; read the warnings first",
    "errors": "a training would stop: mend the errors, or set dataset.bad_rows=drop",
}


def print_report(report: Mapping[str, Any]) -> None:
    """Print counts, lengths, findings, examples and the verdict."""
    console = Console(highlight=False, soft_wrap=True)
    counts = ", ".join(f"{count:,} {what}" for what, count in report["rows"].items())
    told_for = f" for method={report['method']} model={report['model']}"
    console.print(Text.assemble((report["dataset"], "bold"), told_for))
    console.print(Text(f"layout: {report['layout']}\nrows:   {counts}"))
    for reason, count in report["reasons"].items():
        console.print(Text(f"        left out {count:,}: {reason}"))
    if report["conversion"]:
        console.print(Text(f"means:  {report['conversion']}"))
    console.print(Text(f"plan:   {report['plan']}\n"))
    console.print(_lengths(report["quantiles"]), "")
    for finding in report["findings"]:
        console.print(Text(f"{finding['level']}: {_told(finding)}", style=STYLE[finding["level"]]))
    for example in report["examples"]:
        console.print(Text(f"\nrow {example['row']} ({example['id']}); trained tokens in green", style="bold"))
        for name, text, trained in example["pieces"]:
            console.print(Text.assemble((f"{name}: ", "dim"), (text, "green" if trained else "")))
    console.print(Text(f"\nverdict: {report['verdict']}: {VERDICTS[report['verdict']]}", style="bold"))


def _told(finding: Mapping[str, Any]) -> str:
    more = " ..." if finding["count"] > len(finding["rows"]) else ""
    rows = f" (rows {', '.join(map(str, finding['rows']))}{more})" if finding["rows"] else ""
    return f"{finding['text']}{rows}"


def _lengths(quantiles: Mapping[str, Mapping[str, int]]) -> Table:
    shares = next((list(found) for found in quantiles.values() if found), [])
    table = Table("tokens", *shares, box=None, header_style="bold", pad_edge=False)
    for name, found in quantiles.items():
        table.add_row(name, *(str(found.get(share, "")) for share in shares))
    return table


def write_page(report: Mapping[str, Any], file: Path) -> None:
    """Write the report as one self-contained HTML file."""
    from jinja2 import Environment

    source = importlib.resources.files("alignzoo.report").joinpath("data_check.html.jinja").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    plots = {name: _histogram(values, name) for name, values in report["lengths"].items() if values}
    page = template.render(report=report, plots=plots, told=_told, verdict=VERDICTS[report["verdict"]])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")


def _histogram(values: Sequence[int], name: str) -> str:
    """Return an SVG element."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.4), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.hist(values, bins=min(40, max(5, len(set(values)))), color="#4c78a8")
    axes.set(xlabel=f"{name}, tokens", ylabel="rows")
    axes.spines[["top", "right"]].set_visible(False)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]

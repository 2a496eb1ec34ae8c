"""Prints a run on the terminal: its plan, its completions, its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from alignzoo.config.metrics import NUMBERS
from alignzoo.data.convert import MEANING
from alignzoo.data.manifest import reasons
from alignzoo.evaluate.agreement import describe_agreement
from alignzoo.evaluate.intervals import Estimate
from alignzoo.evaluate.task_items import format_change, format_score
from alignzoo.report.selection import describe_selection
from alignzoo.runs.generation import describe_generation, read_generation
from alignzoo.system.console import make_console
from alignzoo.system.limits import format_bytes
from alignzoo.system.ranks import on_main
from alignzoo.system.tables import plain_table

if TYPE_CHECKING:
    from alignzoo.data.findings import Finding
    from alignzoo.data.prepare import Prepared
    from alignzoo.plan.budget import Plan
    from alignzoo.plugin.method import DataFormat


@on_main
def print_plan(data: Prepared, wanted: DataFormat, plan: Plan, found: Sequence[Finding]) -> None:
    """Print the data's layout, its rows, its findings, what the conversion means, and the plan."""
    counts = data.manifest["decision"].value_counts()
    console = make_console(soft_wrap=True)
    for line in (f"data: {data.layout}", *data.unread.describe(wanted)):
        console.print(line)
    left_out = "".join(f"; left out {count:,}: {reason}" for reason, count in reasons(data.manifest).items())
    validation = f", {counts['validation']:,} for validation" if "validation" in counts else ""
    line = f"rows: {counts.get('train', 0):,} to train on, {counts.get('heldout', 0):,} held out{validation}{left_out}"
    console.print(line)
    if (data.kind, wanted) in MEANING:
        console.print(f"conversion: {MEANING[data.kind, wanted]}")
    for finding in found:
        if finding.level != "note":
            console.print(Text.assemble((f"{finding.level}:", "yellow"), f" {finding}"))
    console.print(f"plan: {plan}")


@on_main
def print_generated(dataset: Mapping[str, Any]) -> None:
    """Print how the rows were made, where the group ``dataset`` names generated ones."""
    if dataset.get("generated"):
        folder = Path(dataset["generated"]).expanduser()
        made = describe_generation(read_generation(folder, str(folder)))
        make_console(soft_wrap=True).print(Text(f"generated: {folder.name}: {made}"))


def print_answers(answers: Sequence[Mapping[str, Any]], shown: int) -> None:
    """Print the first ``shown`` held-out prompts with their completions before and after, side by side."""
    if not answers or not shown or "text" not in answers[0]["after"]:  # a reward model has none
        return
    console = make_console()
    table = Table(
        "held-out prompt", "before", "after", show_lines=True, title=f"{min(shown, len(answers))} held-out prompts"
    )
    for column in table.columns:
        column.overflow = "fold"  # a word wider than its column is broken, not cut
    table.columns[0].ratio, table.columns[1].ratio, table.columns[2].ratio = 2, 5, 4
    for row in answers[:shown]:
        table.add_row(Text(row["prompt"]), _make_cell(row["before"]), _make_cell(row["after"]))
    console.print(table)


def _make_cell(answer: Mapping[str, Any]) -> Text:
    text = Text(answer["text"] or "(empty)")
    text.append(f"\n[{answer['tokens']} tokens{'' if answer['ended'] else ', cut off'}]", style="dim")
    return text


def print_result(result: Mapping[str, Any], folder: Path) -> None:
    """Print the yardstick's numbers before and after, the run's cost, and its folder."""
    console = make_console()
    print_numbers(result)
    if selection := describe_selection([result]):
        console.print(selection, soft_wrap=True)
    cost = result["cost"]
    planned = cost.get("planned_memory_bytes")
    console.print(
        f"{cost['steps']} steps in {cost['train_seconds']:.0f} s, {cost['total_seconds']:.0f} s with everything; "
        f"peak memory {format_bytes(cost['peak_memory_bytes'])}"
        + (f", planned {format_bytes(planned)}" if planned else "")
    )
    console.print(f"run folder: {folder}", soft_wrap=True)


def print_numbers(result: Mapping[str, Any]) -> None:
    """Print the yardstick's numbers, before and after, with their intervals; those on validation rows and tasks too."""
    console = make_console()
    for rows, measured in (("held-out rows", result), ("validation rows", result.get("validation", {}))):
        before, after = measured.get("before", {}), measured.get("after", {})
        if after:
            table = plain_table(rows, "before", "after", "95 % interval")
            for key, number in NUMBERS.items():
                if key in after:
                    ends = " to ".join(number.form.format(end) for end in measured["intervals"][key])
                    table.add_row(number.label, number.form.format(before[key]), number.form.format(after[key]), ends)
            console.print(table)
            for sentence in describe_agreement(measured["agreement"]) if measured.get("agreement") else ():
                console.print(sentence, soft_wrap=True)
    print_tasks(result.get("tasks", {}))


def print_tasks(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the ``tasks`` of a ``result.json``: each number before and after, and its paired change."""
    if not tasks:
        return
    table = plain_table("benchmark", "items", "before", "after", "change (95 %)")
    for label, one in tasks.items():
        scores = (format_score(one[side], one["share"]) for side in ("before", "after"))
        table.add_row(
            *map(Text, (label, f"{one['items']:,}", *scores, format_change(Estimate(*one["change"]), one["share"])))
        )
    make_console().print(table)

"""What a finished run says on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignzoo.evaluate.numbers import NUMBERS


def print_answers(answers: Sequence[Mapping[str, Any]], shown: int) -> None:
    """Print the first ``shown`` held-out prompts, each with its answer before and after, side by side."""
    if not answers or not shown:
        return
    console = Console()
    table = Table(
        "held-out prompt", "before", "after", show_lines=True, title=f"{min(shown, len(answers))} held-out prompts"
    )
    table.columns[0].ratio, table.columns[1].ratio, table.columns[2].ratio = 2, 5, 4
    for row in answers[:shown]:
        table.add_row(Text(row["prompt"]), _cell(row["before"]), _cell(row["after"]))
    console.print(table)


def _cell(answer: Mapping[str, Any]) -> Text:
    text = Text(answer["text"] or "(empty)")
    text.append(f"\n[{answer['tokens']} tokens{'' if answer['ended'] else ', cut off'}]", style="dim")
    return text


def print_result(result: Mapping[str, Any], folder: Path) -> None:
    """Print the yardstick's numbers before and after, what the run cost, and where it lies."""
    console = Console()
    before, after = result.get("before", {}), result.get("after", {})
    if after:
        table = Table("held-out rows", "before", "after", box=None, header_style="bold", pad_edge=False)
        for key, number in NUMBERS.items():
            if key in after:
                table.add_row(number.label, number.form.format(before[key]), number.form.format(after[key]))
        console.print(table)
    cost = result["cost"]
    console.print(
        f"{cost['steps']} updates in {cost['train_seconds']:.0f} s, {cost['total_seconds']:.0f} s with everything; "
        f"peak memory {cost['peak_memory_bytes'] / 1e9:.1f} GB",
        highlight=False,
    )
    console.print(f"run folder: {folder}", highlight=False, soft_wrap=True)

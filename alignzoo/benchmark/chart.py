"""Draws the speed benchmark's table and plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.report.leaderboard import draw
from alignzoo.system.tables import plain_table, write_csv

if TYPE_CHECKING:
    from rich.table import Table

    from alignzoo.benchmark.speed import Row

NAMES = {"trl": "plain TRL", "llamafactory": "LLaMA-Factory"}  #: programs, as they are shown


def speed_table(rows: Sequence[Row]) -> Table:
    """Return a line for each case and other program: alignzoo beside it."""

    heads = ("beside", "faster", "1st run", "memory", "tokens/s", "of the limit", "losses differ")
    table = plain_table("a step, words", *heads)
    ours = {row["case"]: row for row in rows if row["program"] == "alignzoo"}
    for row in (row for row in rows if row["program"] != "alignzoo"):
        mine = ours[row["case"]]
        table.add_row(
            row["case"],
            NAMES[row["program"]],
            f"{row['faster']:.2f} x",
            f"{row['faster_with_reference']:.2f} x",
            f"{row['memory']:.2f} x",
            f"{row['tokens_per_second']:,.0f} -> {mine['tokens_per_second']:,.0f}",
            f"{row['flop_share']:.0%} -> {mine['flop_share']:.0%}",
            f"{row['loss_difference']:.0e}",
        )
    return table


def sweep_table(found: dict[str, float]) -> Table:
    """Return a line for the TRL runs, and one for each sweep."""

    table = plain_table("five betas of DPO", "seconds", "of TRL's", "by the reference")
    table.add_row("five plain TRL runs", f"{found['trl']:.1f}", "1.00", "each batch anew")
    for turn in ("first", "second"):
        computed = f"{found[f'{turn}_reference']:.0f} sequences"
        table.add_row(f"{turn} alignzoo sweep", f"{found[turn]:.1f}", f"{found[f'{turn}_ratio']:.2f}", computed)
    return table


def sampling_table(rows: Sequence[Row]) -> Table:
    """Return a line for each batch of GRPO: alignzoo beside plain TRL."""
    heads = ("faster (processor)", "faster (wall clock)", "per token", "seconds", "tokens a completion")
    table = plain_table("GRPO, a step", *heads)
    for row in rows:
        table.add_row(
            row["batch"],
            *(f"{row[name]:.2f} x" for name in ("faster", "faster_wall", "faster_token")),
            f"{row['processor_trl']:.1f} -> {row['processor_alignzoo']:.1f}",
            f"{row['lengths_trl']:.0f} -> {row['lengths_alignzoo']:.0f}",
        )
    return table


def write_speed(rows: Sequence[Row], folder: Path) -> None:
    """Write ``speed.csv``, ``speed.png`` and ``speed.svg`` into ``folder``."""
    import pandas

    folder.mkdir(parents=True, exist_ok=True)
    write_csv(pandas.DataFrame(rows), folder / "speed.csv")
    figure = _figure(rows)
    draw.save_png(figure, folder / "speed.png")
    figure.savefig(folder / "speed.svg", facecolor="white")


def _figure(rows: Sequence[Row]) -> Any:
    """Return bars of how many times faster, a colour a program, and marks where the reference pass is included."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    programs = [name for name in NAMES if any(row["program"] == name for row in rows)]
    figure, axes = draw.new_figure(7.0, 1.2 + 0.34 * len(cases) * len(programs))
    height = 0.8 / max(1, len(programs))
    for place, program in enumerate(programs):
        shown = [row for row in rows if row["program"] == program]
        heights = [cases.index(row["case"]) + place * height for row in shown]
        label = f"{NAMES[program]} / alignzoo"
        axes.barh(heights, [row["faster"] for row in shown], 0.9 * height, color=draw.LIGHT[place], label=label)
        passes = [row["faster_with_reference"] for row in shown]
        axes.plot(passes, heights, "|", color=draw.INK, markersize=9, label="" if place else "in a first run")
    axes.axvline(1, color=draw.INK, linewidth=1)
    axes.set_yticks([number + 0.4 - height / 2 for number in range(len(cases))], cases)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=draw.FAINT, alpha=0.25, linewidth=0.8)
    draw.name_axes(axes, "times the seconds of alignzoo's step", "")
    axes.legend(frameon=False, fontsize=draw.FONT - 2, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    return figure

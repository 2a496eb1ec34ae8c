"""``python -m alignzoo sweep``: shows how far a sweep is, and finishes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from alignzoo.cli.options import PATH
from alignzoo.config.secrets import EXAMPLE, MASK
from alignzoo.config.trust import take_words_from
from alignzoo.runs.sweep_status import PLAN, State, SweepJob, read_command, read_jobs
from alignzoo.system.errors import UserError
from alignzoo.system.tables import plain_table

STYLES = {State.DONE: "green", State.FAILED: "red", State.RUNNING: "cyan", State.PRUNED: "yellow"}


@click.group
def command() -> None:
    """Show how far a sweep is, or finish it."""


@command.command
@click.argument("folder", metavar="FOLDER", type=PATH)
def status(folder: Path) -> int:
    """Show which jobs of the sweep in FOLDER are done, running, pruned, failed, stopped and pending.

    The exit code is 1 unless all are done or pruned.
    """
    found = read_jobs(folder)
    _print(found)
    return int(any(job.state not in (State.DONE, State.PRUNED) for job in found))


@command.command
@click.argument("folder", metavar="FOLDER", type=PATH)
def resume(folder: Path) -> int:
    """Run the jobs of the sweep in FOLDER that have no result, by the sweep's own command."""
    from alignzoo import cli

    _print(read_jobs(folder))
    again = [word for word in read_command(folder) if not word.startswith("resume=")]
    for word in again:
        if MASK in word:
            raise UserError(
                f"{folder} holds a secret that was not kept ({word}): type its command again, with resume=auto "
                f"hydra.sweep.dir={folder}.\nTyped as '{EXAMPLE}' it is read from the environment each time."
            )
    with take_words_from(folder / PLAN):
        cli.main(["-m", *again, f"hydra.sweep.dir={folder}", "resume=auto"])
    return 0


def _print(found: Sequence[SweepJob]) -> None:
    from rich.text import Text

    from alignzoo.system.console import make_console

    table = plain_table("", "job", "state", "")
    for job in found:
        state = Text(job.state, style=STYLES.get(job.state, ""))
        table.add_row(str(job.number), Text(job.words), state, Text(job.detail))
    console = make_console()
    console.print(table)
    counts = Counter(job.state for job in found)
    console.print(", ".join(f"{counts[state]} {state}" for state in State if counts[state]))

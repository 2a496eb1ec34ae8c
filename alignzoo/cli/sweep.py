"""``python -m alignzoo sweep status|resume FOLDER``: how far a sweep is, and finishing what is missing of it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from alignzoo.runs.sweep_status import Member, State, members, sweep_words
from alignzoo.system.tables import plain_table

STYLES = {State.DONE: "green", State.FAILED: "red", State.RUNNING: "cyan"}


def main(words: Sequence[str]) -> int:
    """Print the members, or run those that have no result; ``status`` returns 1 unless all are done."""
    parser = argparse.ArgumentParser(prog="alignzoo sweep", description="How far a sweep is, and finishing it.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="status|resume")
    for name, told in (
        ("status", "done, running, failed, stopped and pending members"),
        ("resume", "run what is left"),
    ):
        action = actions.add_parser(name, help=told, description=told)
        action.add_argument("folder", type=Path, metavar="FOLDER", help="the sweep's")
    options = parser.parse_args(words)
    found = members(options.folder)
    _print(found)
    if options.action == "status":
        return int(any(member.state is not State.DONE for member in found))
    return _resume(options.folder)


def _resume(folder: Path) -> int:
    """Run the sweep's own command again: members with a result are left alone, the others go on or start."""
    from alignzoo import cli

    again = [word for word in sweep_words(folder) if not word.startswith("resume=")]
    cli.main(["-m", *again, f"hydra.sweep.dir={folder}", "resume=auto"])
    return 0


def _print(found: Sequence[Member]) -> None:
    from rich.console import Console
    from rich.text import Text

    table = plain_table("", "member", "state", "")
    for member in found:
        state = Text(member.state, style=STYLES.get(member.state, ""))
        table.add_row(str(member.number), Text(member.words), state, Text(member.told))
    console = Console(highlight=False)
    console.print(table)
    counts = Counter(member.state for member in found)
    console.print(", ".join(f"{counts[state]} {state}" for state in State if counts[state]))

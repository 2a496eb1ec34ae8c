"""What happens around the members of a sweep."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from alignzoo import folders
from alignzoo.errors import UserError, complain

#: Numbers in the table of a sweep's members.
SHOWN = ("preference_accuracy", "margin", "chosen_change", "answer_tokens", "ended", "distinct_3")


class SweepCallback(Callback):
    """Makes the run's or sweep's folder; ends a multirun with a table of its members, and exit code 1 if one failed."""

    def on_run_start(self, config: Any, **kwargs: Any) -> None:
        """Make the run folder before Hydra does, whose complaint would be a traceback."""
        _make(config.hydra.run.dir)

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Make the sweep's."""
        _make(config.hydra.sweep.dir)

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Print what became of each member."""
        folder = Path(config.hydra.sweep.dir)
        members = sorted((path for path in folder.glob("*") if path.is_dir()), key=_number)
        if _print_members(folder, members):
            raise SystemExit(1)


def _make(folder: str) -> None:
    """Hydra turns what a callback raises into a warning, all but the end of the program."""
    try:
        folders.make(Path(folder))
    except UserError as error:
        raise SystemExit(complain(str(error))) from None


def _number(path: Path) -> tuple[int, str]:
    head = path.name.split("-")[0]
    return (int(head) if head.isdigit() else -1, path.name)


def _print_members(folder: Path, members: list[Path]) -> int:
    """Print one line a member, then why some failed, and return how many did."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    from alignzoo.evaluate.numbers import NUMBERS

    results = {member: _read(member) for member in members}
    shown = [key for key in SHOWN if any(key in (result or {}).get("after", {}) for result in results.values())]
    console = Console()
    settings = _settings(members)
    table = Table(
        Column("member", overflow="fold"),
        *(NUMBERS[key].short for key in shown),
        "seconds",
        title=Text(f"sweep {folder}", "table.title"),
        box=None,
        pad_edge=False,
    )
    for member, result in results.items():
        if result is not None:
            numbers = (
                NUMBERS[key].form.format(result["after"][key]) if key in result["after"] else "" for key in shown
            )
            table.add_row(Text(settings[member]), *numbers, f"{result['cost']['train_seconds']:.0f}")
    console.print(table)
    for split in ("train", "heldout"):
        if len({result["data"][split] for result in results.values() if result}) > 1:
            console.print(
                f"Not all members had the same {split} rows: `alignzoo manifest RUN RUN` names them.", style="yellow"
            )
    failed = [member for member, result in results.items() if result is None]
    for member in failed:
        error = member / "error.txt"
        reason = error.read_text(encoding="utf-8").strip() if error.exists() else "did not finish"
        console.print(f"failed: {settings[member]}: {reason}", highlight=False, markup=False, soft_wrap=True)
    return len(failed)


def _settings(members: list[Path]) -> dict[Path, str]:
    """Return what sets each member apart: its number, and the overrides that not all members share."""
    overrides = {member: _overrides(member) for member in members}
    shared = set.intersection(*(set(words) for words in overrides.values())) if len(members) > 1 else set()
    differing = {member: [word for word in words if word not in shared] for member, words in overrides.items()}
    return {member: " ".join([member.name.split("-")[0], *words]) for member, words in differing.items()}


def _overrides(member: Path) -> list[str]:
    """Return the member's overrides from its command; its folder's name where it failed before writing one."""
    file = member / "command.txt"
    return shlex.split(file.read_text(encoding="utf-8"))[3:] if file.exists() else [member.name.partition("-")[2]]


def _read(member: Path) -> dict[str, Any] | None:
    """Return the member's result, or None where it failed."""
    file = member / "result.json"
    if not file.exists() or (member / "error.txt").exists():
        return None
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return result

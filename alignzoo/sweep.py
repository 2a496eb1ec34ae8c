"""What happens around the members of a sweep."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

#: Numbers in the table of a sweep's members.
SHOWN = ("preference_accuracy", "margin", "chosen_change", "answer_tokens", "ended", "distinct_3")


class SweepCallback(Callback):
    """Ends a multirun with a table of its members; the exit code is 1 if one of them failed."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Print what became of each member."""
        folder = Path(config.hydra.sweep.dir)
        members = sorted((path for path in folder.glob("*") if path.is_dir()), key=_number)
        if _print_members(folder, members):
            raise SystemExit(1)


def _number(path: Path) -> tuple[int, str]:
    head = path.name.split("-")[0]
    return (int(head) if head.isdigit() else -1, path.name)


def _print_members(folder: Path, members: list[Path]) -> int:
    """Print one line a member, then why some failed, and return how many did."""
    from rich.console import Console
    from rich.table import Table

    from alignzoo.evaluate.numbers import NUMBERS

    results = {member: _read(member) for member in members}
    shown = [key for key in SHOWN if any(key in (result or {}).get("after", {}) for result in results.values())]
    console = Console()
    settings = _settings(members)
    table = Table(
        "member", *(NUMBERS[key].short for key in shown), "seconds", title=f"sweep {folder}", box=None, pad_edge=False
    )
    for member, result in results.items():
        if result is not None:
            numbers = (
                NUMBERS[key].form.format(result["after"][key]) if key in result["after"] else "" for key in shown
            )
            table.add_row(settings[member], *numbers, f"{result['cost']['train_seconds']:.0f}")
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
    file = member / "result.json"
    result: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return result

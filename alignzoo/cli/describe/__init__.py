"""``python -m alignzoo describe``: says what an option is, what its keys mean, and what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from alignzoo.cli.describe.meaning import Description, describe
from alignzoo.cli.describe.page import print_description, render_markdown
from alignzoo.cli.options import FILE
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError


@click.command
@click.argument("choices", nargs=-1, metavar="[GROUP=OPTION]...")
@click.option("--write", type=FILE, metavar="FOLDER", help="Write a page for each (default: alignzoo's methods).")
def command(choices: Sequence[str], write: Path | None) -> int:
    """Say what an option is, what its keys mean, and what it needs.

    GROUP=OPTION as for a run: method=dpo. `list` names the options.
    """
    if not choices and not write:
        raise click.UsageError("name an option, as in: describe method=dpo")
    found = [describe(word) for word in choices or list_own_methods()]
    if write:
        _write(found, write)
        return 0
    for place, description in enumerate(found):
        print("\n" if place else "", end="")
        print_description(description)
    return 0


def list_own_methods() -> list[str]:
    """Return the methods that alignzoo itself ships, as they are typed."""
    return [f"method={name}" for name, (_, plugin) in sorted(registry().methods.items()) if plugin.distribution == OWN]


def _write(found: list[Description], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for description in found:
            (folder / f"{description.option.name}.md").write_text(render_markdown(description), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--write {folder}: it cannot be written ({error.strerror}).") from None
    print(f"{len(found)} pages in {folder}")

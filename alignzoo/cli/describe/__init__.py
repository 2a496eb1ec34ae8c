"""``python -m alignzoo describe method=dpo``: what an option is, what its keys mean, and what it needs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from alignzoo.cli.describe.meaning import Description, describe
from alignzoo.cli.describe.page import markdown, print_description
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError


def main(words: Sequence[str]) -> int:
    """Print the descriptions, or write them as Markdown pages."""
    parser = argparse.ArgumentParser(
        prog="alignzoo describe",
        description="What an option is, what its keys mean, and what it needs. `list` names the options.",
    )
    parser.add_argument("choices", nargs="*", metavar="GROUP=OPTION", help="as on the command line: method=dpo")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="write a Markdown page for each (default: alignzoo's methods)"
    )
    options = parser.parse_args(words)
    if not options.choices and not options.write:
        parser.error("name an option, as in: describe method=dpo")
    found = [describe(word) for word in options.choices or own_methods()]
    if options.write:
        _write(found, options.write)
        return 0
    for place, description in enumerate(found):
        print("\n" if place else "", end="")
        print_description(description)
    return 0


def own_methods() -> list[str]:
    """Return the methods that alignzoo itself ships, as they are typed."""
    return [f"method={name}" for name, (_, plugin) in sorted(registry().methods.items()) if plugin.distribution == OWN]


def _write(found: list[Description], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for description in found:
            (folder / f"{description.option.name}.md").write_text(markdown(description), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--write {folder}: it cannot be written ({error.strerror}).") from None
    print(f"{len(found)} pages in {folder}")

"""``python -m alignzoo cache``: lists and clears what alignzoo keeps on disk."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from alignzoo.system import cache
from alignzoo.system.errors import UserError, did_you_mean
from alignzoo.system.limits import format_bytes
from alignzoo.system.tables import plain_table


@click.group
def command() -> None:
    """List or clear what alignzoo keeps on disk."""


@command.command("list")
def list_folders() -> int:
    """List the folders of the cache: what each holds, its size, and when it was last used."""
    _print(cache.list_folders())
    return 0


@command.command("clear", help=f"Remove the folders NAME (default: {', '.join(cache.CONTENTS)}); runs make them again.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def clear_folders(names: Sequence[str]) -> int:
    """Remove the folders ``names``, or all that can be made again."""
    known = [kept.name for kept in cache.list_folders()]
    for name in names:
        if name not in known:
            raise UserError(f"cache clear {name}: the cache has {', '.join(known)}.{did_you_mean(name, known)}")
    freed = cache.clear([*names] or list(cache.CONTENTS))
    print(f"{format_bytes(freed)} freed in {cache.root()}")
    return 0


def _print(contents: list[cache.CachedFolder]) -> None:
    from alignzoo.system.console import make_console

    table = plain_table("folder", "what it holds", "files", "size", "last used")
    for kept in contents:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used)) if kept.files else ""
        table.add_row(kept.name, cache.CONTENTS.get(kept.name, ""), f"{kept.files:,}", format_bytes(kept.size), used)
    console = make_console(soft_wrap=True)
    console.print(table)
    console.print(f"in {cache.root()}")
    limited = ", ".join(cache.LIMITED)
    console.print(
        f"{limited}: at most {format_bytes(cache.read_limit())} together (ALIGNZOO_CACHE_GB), oldest out first"
    )

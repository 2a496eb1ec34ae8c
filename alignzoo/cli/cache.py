"""``python -m alignzoo cache list``, ``python -m alignzoo cache clear [NAME...]``: what is kept on disk."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from alignzoo.system import cache
from alignzoo.system.errors import UserError, did_you_mean
from alignzoo.system.tables import plain_table


def main(words: Sequence[str]) -> int:
    """Print what is there, or remove it; return 0."""
    parser = argparse.ArgumentParser(prog="alignzoo cache", description="What alignzoo keeps on disk.")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="what is there, how large, and when it was last used")
    clear = actions.add_parser("clear", help="remove what can be made again")
    clear.add_argument("names", nargs="*", metavar="NAME", help=f"what to remove (default: {', '.join(cache.HOLDS)})")
    options = parser.parse_args(words)
    if options.action == "list":
        _print(cache.contents())
    else:
        freed = cache.clear(_checked(options.names) or list(cache.HOLDS))
        print(f"{_told(freed)} freed in {cache.root()}")
    return 0


def _checked(names: list[str]) -> list[str]:
    known = [kept.name for kept in cache.contents()]
    for name in names:
        if name not in known:
            raise UserError(f"cache clear {name}: the cache has {', '.join(known)}.{did_you_mean(name, known)}")
    return names


def _print(contents: list[cache.Kept]) -> None:
    from rich.console import Console

    table = plain_table("folder", "what it holds", "files", "size", "last used")
    for kept in contents:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.used)) if kept.files else ""
        table.add_row(kept.name, cache.HOLDS.get(kept.name, ""), f"{kept.files:,}", _told(kept.size), used)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    console.print(f"in {cache.root()}")
    limited = ", ".join(cache.LIMITED)
    console.print(f"{limited}: at most {_told(cache.limit())} together (ALIGNZOO_CACHE_GB), oldest out first")


def _told(size: int) -> str:
    """Return bytes in the largest unit that leaves a number above 1."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} B"

"""``python -m alignzoo list``: methods, rewards, judges and plugins, with the distribution that each comes from."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from typing import Any

from alignzoo.registry import Plugin, registry


def main(words: Sequence[str]) -> int:
    """Print the tables; exit with 1 if a plugin is left out because it is broken."""
    argparse.ArgumentParser(prog="alignzoo list", description=__doc__).parse_args(words)
    from rich.console import Console
    from rich.table import Table

    found = registry()
    console = Console()
    for title, items in (("method", found.methods), ("reward", found.rewards), ("judge", found.judges)):
        table = Table(title, "what it is", "from", box=None, header_style="bold", pad_edge=False)
        for name, (item, plugin) in sorted(items.items()):
            table.add_row(name, _first_line(item), plugin.origin)
        console.print(table, "")
    return _print_left_out([p for p in found.plugins.values() if p.problem])


def _first_line(item: Any) -> str:
    return (inspect.getdoc(item) or "").partition("\n")[0]


def _print_left_out(plugins: list[Plugin]) -> int:
    for plugin in plugins:
        print(f"left out: {plugin.name} ({plugin.origin}): {plugin.problem}")
    return int(any("disabled" not in (plugin.problem or "") for plugin in plugins))

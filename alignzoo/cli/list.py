"""``python -m alignzoo list``: lists methods, rewards, judges and options, with the distribution of each."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from alignzoo.config.declared import remark_faults
from alignzoo.config.options import config_options
from alignzoo.plugin.registry import Registry, registry
from alignzoo.system.tables import plain_table

if TYPE_CHECKING:
    from rich.console import Console


@click.command
def command() -> int:
    """List methods, rewards, judges and options, with the distribution that each comes from.

    What is wrong with a plugin stands at the end; the exit code is 0 all the same, since doctor judges.
    """
    from alignzoo.system.console import make_console

    console = make_console()
    options = config_options()  # first: a plugin whose config hook fails is left out of the rest
    found = registry()
    remark_faults(found, ours=False)
    _print_named(console, found)
    _print_options(console, {group: list(named.values()) for group, named in options.items()})
    _print_distributions(console, found)
    _print_faults(found)
    return 0


def _print_named(console: Console, found: Registry) -> None:
    for title, items in (("method", found.methods), ("reward", found.rewards), ("judge", found.judges)):
        table = plain_table(title, "what it is", "from")
        for name, (item, plugin) in sorted(items.items()):
            table.add_row(name, (inspect.getdoc(item) or "").partition("\n")[0], plugin.origin)
        console.print(table, "")


def _print_options(console: Console, options: dict[str, list[Any]]) -> None:
    table = plain_table("group", "options", "from")
    for group, named in options.items():
        origins: dict[str, list[str]] = {}
        for option in named:
            origins.setdefault(option.origin, []).append(option.name)
        for place, (origin, names) in enumerate(origins.items()):
            table.add_row("" if place else group, ", ".join(names), origin)
    console.print(table, "")


def _print_distributions(console: Console, found: Registry) -> None:
    table = plain_table("installed", "plugins")
    origins: dict[str, list[str]] = {}
    for plugin in found.plugins.values():
        origins.setdefault(plugin.origin, []).append(plugin.name + (" (left out)" if plugin.problem else ""))
    for origin, names in origins.items():
        table.add_row(origin, ", ".join(names))
    console.print(table, "")


def _print_faults(found: Registry) -> None:
    for plugin in found.plugins.values():
        if plugin.problem:
            print(f"left out: {plugin.name} ({plugin.origin}): {plugin.problem}")
        for remark in found.remarks.get(plugin.name, []):
            print(f"in use, but: {plugin.name} ({plugin.origin}): {remark}")

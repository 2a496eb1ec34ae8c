"""``python -m alignzoo list``: shows the methods by family, what else can be chosen, and what is wrong with plugins."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alignzoo.cli.describe.yaml_comments import read_heading
from alignzoo.cli.options import FILE, OVERRIDE
from alignzoo.config.declared import remark_faults
from alignzoo.config.options import config_options
from alignzoo.plugin.family import FAMILIES, find_family, group_by_family
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.named import GROUPS
from alignzoo.plugin.registry import Registry, registry
from alignzoo.system.errors import UserError, did_you_mean
from alignzoo.system.tables import plain_table
from alignzoo.train.losses.compare import has_equation

if TYPE_CHECKING:
    from rich.console import Console

    from alignzoo.plugin.method import Method

#: Behind the name of a method that gives no equation.
UNVERIFIED = "*"

#: Columns before a method's name.
INDENT = 2

#: Author and year in the first line of a docstring: (Rafailov et al., 2023).
SOURCE = re.compile(r"\(([^()]+?)(?: et al\.| and [^()]+?)?,? (\d{4})[a-z]?\)")


@click.command
@click.argument("words", nargs=-1, metavar="[GROUP]... [KEY=VALUE]...")
@click.option("--data", type=FILE, metavar="FILE", help="Say which methods can be trained on this file as it is.")
def command(words: Sequence[str], data: Path | None) -> int:
    """List the methods by family, or the options of a GROUP, or the methods that some data can train.

    GROUP: method, reward, tools, dataset, ..., or plugins. KEY=VALUE as for a run: dataset=hh. What is wrong with a
    plugin stands at the end; the exit code is 0 all the same, since doctor judges.
    """
    from alignzoo.system.console import make_console

    console = make_console()
    options = config_options()  # first: a plugin whose config hook fails is left out of the rest
    found = registry()
    remark_faults(found, ours=False)
    overrides = [word for word in words if OVERRIDE.match(word)]
    groups = [word for word in words if word not in overrides]
    if groups and (data or overrides):
        raise click.UsageError(f"name data or a group, not both: {' '.join(groups)} is a group")
    if data or overrides:
        _print_fitting(console, found, [*([f"dataset.path={data}", "dataset=local"] if data else []), *overrides])
        return 0
    for group in groups:
        _print_group(console, found, group)
    if not groups:
        _print_methods(console, found)
        _print_others(console, found, sorted(options))
    _print_faults(found)
    return 0


def _print_methods(console: Console, found: Registry) -> None:
    """Print every method's name, author and year, by family, in as few lines as the terminal's width allows."""
    for family, methods in group_by_family(method for method, _ in found.methods.values()).items():
        items = [_name_and_source(found, method) for method in methods]
        lines = _pack_columns(items, console.width - INDENT)
        if len(lines) == 1 and len(family) + INDENT + len(lines[0]) <= console.width:
            console.print(f"{family}  ", style="bold", end="")
            console.print(lines[0], soft_wrap=True)
            continue
        console.print(f"{family}  {FAMILIES.get(family, 'declared by a plugin')}", style="bold", soft_wrap=True)
        for line in lines:
            console.print(" " * INDENT + line, soft_wrap=True)


def _name_and_source(found: Registry, method: type[Method]) -> tuple[str, str]:
    _, plugin = found.methods[method.name]
    source = SOURCE.search(inspect.getdoc(method) or "")
    shown = " ".join(source.groups()) if source else ""
    theirs = "" if plugin.distribution == OWN else f" [{plugin.origin}]"
    return method.name + ("" if has_equation(method) else UNVERIFIED), shown + theirs


def _pack_columns(items: Sequence[tuple[str, str]], width: int) -> list[str]:
    """Return lines with the pairs of texts down as many columns as fit, each as wide as its own texts."""
    for count in range(len(items), 0, -1):
        height = -(-len(items) // count)
        columns = [items[start : start + height] for start in range(0, len(items), height)]
        cells = [_pad(column) for column in columns]
        lines = ["   ".join(cell[row] for cell in cells if row < len(cell)).rstrip() for row in range(height)]
        if count == 1 or max(map(len, lines)) <= width:
            return lines
    return []


def _pad(column: Sequence[tuple[str, str]]) -> list[str]:
    left, right = (max(len(item[side]) for item in column) for side in (0, 1))
    return [f"{name:{left}} {source:{right}}" for name, source in column]


def _print_others(console: Console, found: Registry, groups: Iterable[str]) -> None:
    if any(not has_equation(method) for method, _ in found.methods.values()):
        console.print(f"{UNVERIFIED} gives no equation; verify-losses compares the others with their papers")
    theirs = sorted({plugin.origin for plugin in found.plugins.values() if plugin.distribution != OWN})
    if theirs:
        console.print(f"plugins of others: {', '.join(theirs)}")
    console.print(f"more: list {', '.join(groups)}, plugins; list --data FILE;")
    console.print("describe method=dpo; verify-losses dpo; -m method=@preference", soft_wrap=True)


def _print_group(console: Console, found: Registry, group: str) -> None:
    """Print the options of one group with what each is, and the distribution that it comes from."""
    options = config_options()
    if group == "plugins":
        _print_distributions(console, found)
    elif group in GROUPS:
        items = found.of_group(group)
        table = plain_table(group, *(["family"] if group == "method" else []), "what it is", "from")
        for name, (item, plugin) in sorted(items.items()):
            family = [find_family(item)] if group == "method" else []
            table.add_row(name, *family, (inspect.getdoc(item) or "").partition("\n")[0], plugin.origin)
        console.print(table, "")
    elif group in options:
        table = plain_table(group, "what it is", "from")
        for option in options[group].values():
            table.add_row(option.name, read_heading(option.text), option.origin)
        console.print(table, "")
    else:
        known = [*options, "plugins"]
        raise UserError(f"list {group}: no such group.{did_you_mean(group, known)}\nThere are: {', '.join(known)}.")


def _print_distributions(console: Console, found: Registry) -> None:
    table = plain_table("installed", "plugins")
    origins: dict[str, list[str]] = {}
    for plugin in found.plugins.values():
        origins.setdefault(plugin.origin, []).append(plugin.name + (" (left out)" if plugin.problem else ""))
    for origin, names in origins.items():
        table.add_row(origin, ", ".join(names))
    console.print(table, "")


def _print_fitting(console: Console, found: Registry, words: Sequence[str]) -> None:
    """Print which methods can be trained on the data, and why the others cannot."""
    from alignzoo.cli.fit import explain_misfits, read_data
    from alignzoo.config.compose import compose

    data = read_data(compose(words))
    misfits = explain_misfits(data, [method for method, _ in found.methods.values()], words)
    console.print(f"{data.layout}", soft_wrap=True)
    fitting = [method for method, _ in found.methods.values() if method.name not in misfits]
    for family, methods in group_by_family(fitting).items():
        rewarded = " (with reward=NAME)" if all(method.uses_rewards for method in methods) else ""
        console.print(f"can train  {family}{rewarded}: {', '.join(method.name for method in methods)}")
    for reason in dict.fromkeys(misfits.values()):
        names = ", ".join(sorted(name for name in misfits if misfits[name] == reason))
        console.print(f"cannot train  {names}: {reason}")


def _print_faults(found: Registry) -> None:
    for plugin in found.plugins.values():
        if plugin.problem:
            print(f"left out: {plugin.name} ({plugin.origin}): {plugin.problem}")
        for remark in found.remarks.get(plugin.name, []):
            print(f"in use, but: {plugin.name} ({plugin.origin}): {remark}")

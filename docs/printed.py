"""Prints what cog writes into the documentation: help pages, tables, and answers of commands that train nothing.

``tests/test_docs.py`` checks that the pages say what these functions print; ``nox -s docs -- --write`` writes it anew.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from enum import Enum

import click

import alignzoo
from alignzoo.cli import COMMANDS, find_command
from alignzoo.cli.describe.facts import DATA, gives_loss, list_fixed, name_further_model, name_reference
from alignzoo.cli.describe.meaning import config_file, describe
from alignzoo.cli.describe.yaml_comments import read_heading, read_keys
from alignzoo.cli.doctor.versions import KNOWN_BAD
from alignzoo.config.compose import compose
from alignzoo.config.metrics import NUMBERS
from alignzoo.config.options import config_options
from alignzoo.data.layouts import SHAPES
from alignzoo.plugin import hooks
from alignzoo.plugin.family import FAMILIES, group_by_family
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.method import DataFormat, Method
from alignzoo.plugin.registry import registry
from alignzoo.system import cache
from alignzoo.testing import Conformance
from alignzoo.train.losses.compare import read_source

WIDTH = 80

#: What the rows of a layout hold.
HOLDS = {
    DataFormat.PREFERENCE: "pairs",
    DataFormat.UNPAIRED: "completions marked good or bad",
    DataFormat.SUPERVISED: "good completions",
    DataFormat.PROMPTS: "prompts",
    DataFormat.SCORED: "scored completions",
}


def answer(*words: str, lines: int | None = None) -> None:
    """Print what ``python -m alignzoo WORDS`` answers in an empty folder: all of it, or its first ``lines``."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "alignzoo", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    printed = [line.rstrip() for line in (done.stdout + done.stderr).strip().splitlines()]
    _block([*printed[:lines], "..."] if lines else printed)


def subcommands() -> None:
    """Print a table of the subcommands."""
    _table(("command", "what it does"), ((f"[`{name}`](#{name})", text) for name, text in COMMANDS.items()))


def help_pages() -> None:
    """Print the help page of each subcommand, and of its own subcommands."""
    for name in COMMANDS:
        print(f"\n## {name}\n")
        _help(find_command(name), f"alignzoo {name}")


def _help(command: click.Command, name: str) -> None:
    context = click.Context(command, info_name=name, terminal_width=WIDTH)
    _block(command.get_help(context).splitlines())
    if isinstance(command, click.Group):
        for word, below in sorted(command.commands.items()):
            print()
            _help(below, f"{name} {word}")


def methods() -> None:
    """Print a table of alignzoo's methods."""
    found = [method for _, (method, plugin) in sorted(registry().methods.items()) if plugin.distribution == OWN]
    rows = (
        (f"`{m.name}`", DATA[m.data].partition(":")[0].partition(" (")[0], _summary(m), f"`{_class(m.trainer)}`")
        for m in found
    )
    _table(("`method=`", "learns from", "what it is", "TRL class"), rows)


def _class(spec: str) -> str:
    module, _, name = spec.partition(":")
    return name if module.startswith("alignzoo_plugins.") else f"{module}.{name}".removeprefix("trl.")


def options(group: str, typed: str = "") -> None:
    """Print a table of a group's options, each with the first comment of its file."""
    own = [option for option in config_options()[group].values() if option.origin.startswith(f"{OWN} ")]
    rows = ((f"`{option.name}`", read_heading(option.text)) for option in own)
    _table((f"`{typed or group}=`", "what it is"), rows)


def group_keys(group: str = "") -> None:
    """Print a table of the keys below ``group`` in config.yaml; with an empty group, of those at its top."""
    every = [key for key in read_keys(config_file()) if key.path not in ("defaults", "hydra")]
    top = [key for key in every if "." not in key.path and key.value]
    below = [key for key in every if key.path.startswith(f"{group}.")]
    _keys((key.path, key.value, key.comment) for key in (below if group else top))


def option_keys(*words: str) -> None:
    """Print one table of the keys of options such as ``peft=lora``."""
    every = (key for word in words for key in describe(word).keys)
    found = {key.path: key for key in every if key.path.partition(".")[0] != "hydra"}
    _keys((key.path, key.default, key.text) for key in found.values())


def _keys(rows: Iterable[tuple[str, str, str]]) -> None:
    shown = (
        (f"`{path}`", f"`{value}`" if value else "", text or "The option's name." * path.endswith(".name"))
        for path, value, text in rows
        if value or text
    )
    _table(("key", "default", "meaning"), shown)


def all_methods() -> None:
    """Print a section for each family, with a table of its methods."""
    heads = ("`method=`", "what it is", "paper", "loss", "reference", "further model", "first loss", "equation")
    own = (method for method, plugin in registry().methods.values() if plugin.distribution == OWN)
    for family, methods in group_by_family(own).items():
        print(f"\n## {family}\n\nLearns from {FAMILIES[family]}. `-m method=@{family}` runs all.\n")
        _table(heads, (_method_row(method) for method in methods))


def _method_row(method: type[Method]) -> tuple[str, ...]:
    cfg = compose([f"method={method.name}"])
    first = method.first_loss(cfg)
    address = re.search(r"https://\S+?(?=[,.]?(?:\s|$))", inspect.getdoc(inspect.getmodule(method)) or "")
    assert address, f"{method.name}: no address of the paper"
    short = re.sub(r"https://(arxiv\.org/abs/)?", "", address[0])
    theirs = ", ".join(["TRL's", *(f"`{field}`" for field in list_fixed(method))])
    return (
        f"[`{method.name}`](methods/{method.name}.md)",
        _summary(method),
        f"[{short}]({address[0]})",
        "own" if gives_loss(method) else theirs,
        name_reference(method, cfg),
        name_further_model(method),
        "" if first is None else f"{first:.4g}",
        read_source(method),
    )


def numbers() -> None:
    """Print a table of the numbers that every run is measured by."""
    rows = ((f"[`{key}`](#{key})", number.label, number.better, number.kind) for key, number in NUMBERS.items())
    _table(("key", "label", "better", "kind"), rows)


def layouts() -> None:
    """Print a table of the layouts of data."""
    rows = ((f"`{s.name}`", HOLDS[s.kind], _names(s.needed), _names(s.optional)) for s in SHAPES)
    _table(("name", "holds", "columns", "optional columns"), rows)


def exports() -> None:
    """Print a table of what plugins may import from ``alignzoo``."""
    _table(("name", "what it is"), ((f"`{name}`", _summary(getattr(alignzoo, name))) for name in alignzoo.__all__))


def attributes(name: str) -> None:
    """Print a table of what an exported class holds, from its docstring."""
    text = (inspect.getdoc(getattr(alignzoo, name)) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    prefix = f"{name}." if issubclass(getattr(alignzoo, name), Enum) else ""
    _table(("name", "what it is"), ((f"`{prefix}{key}`", _plain(meaning)) for key, meaning in found))


def _plain(text: str) -> str:
    """Return a docstring's text as Markdown in one line."""
    return re.sub(r":class:`(?:alignzoo\.)?(\w+)`", r"`\1`", " ".join(text.split())).replace("``", "`")


def hook_table() -> None:
    """Print a table of the hooks."""
    found = {name: hook for name, hook in vars(hooks).items() if hasattr(hook, "alignzoo_spec")}
    rows = (
        (f"`{name}({', '.join(signature.parameters)})`", f"`{signature.return_annotation}`", _summary(hook))
        for name, hook in found.items()
        for signature in [inspect.signature(hook)]
    )
    _table(("hook", "returns", "what it is for"), rows)


def kit() -> None:
    """Print a table of the conformance kit's checks."""
    checks = [(name, check) for name, check in vars(Conformance).items() if name.startswith("test_")]
    _table(("check", "what has to hold"), ((f"`{name}`", _summary(check)) for name, check in checks))


def known_bad() -> None:
    """Print a table of the combinations of versions that ``doctor`` names."""
    rows = ((", ".join(f"`{n} {v}`" for n, v in b.versions.items()), b.wrong, b.fix, b.source) for b in KNOWN_BAD)
    _table(
        ("installed together", "what goes wrong", "fix", "source"), ((v, w, f"`{f}`", f"<{s}>") for v, w, f, s in rows)
    )


def cache_folders() -> None:
    """Print a table of the cache's folders."""
    _table(("folder", "what it holds"), ((f"`{name}`", text) for name, text in cache.HOLDS.items()))


def _summary(item: object) -> str:
    return _plain((inspect.getdoc(item) or "").partition("\n\n")[0])


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(columns))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    heads = list(heads)
    for row in (heads, ["---"] * len(heads), *(map(_cell, row) for row in rows)):
        print(f"| {' | '.join(row)} |")


def _block(lines: Iterable[str]) -> None:
    print("```text", *lines, "```", sep="\n")

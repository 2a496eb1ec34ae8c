"""Declares the options that several subcommands have in common."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

PATH = click.Path(path_type=Path)

#: What reads like a word that changes the configuration: method.beta=0.1, +train.x=1.
OVERRIDE = re.compile(r"[+~]*(?:hydra/)?[A-Za-z_][\w.@]*=")


if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # generic in newer versions only
else:
    ParamType = click.ParamType


class _NoOverride(ParamType):
    """The value of an option: an override in its place means that the value was forgotten, and must not be lost."""

    def __init__(self, inner: ParamType) -> None:
        self.inner, self.name = inner, inner.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as the inner type has it."""
        if isinstance(value, str) and OVERRIDE.match(value) and not Path(value).exists():
            self.fail(f"{value} is an override: write the option's value before it (a path: ./{value}).", param, ctx)
        return self.inner.convert(value, param, ctx)


FILE = _NoOverride(PATH)  #: of an option that names a file or folder to write
WORD = _NoOverride(click.STRING)  #: of an option that takes a name

overrides_argument = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


@contextlib.contextmanager
def libraries_on_stderr(as_json: bool) -> Iterator[None]:
    """Send what libraries print to stderr, where JSON is all that may stand on stdout."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def print_json(value: Any, ascii_only: bool = True) -> None:
    """Print ``value`` as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=ascii_only))

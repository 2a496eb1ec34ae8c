"""Declares the options that several subcommands have in common."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)

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

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

from alignzoo.system.disk import explain_full_disk
from alignzoo.system.errors import UserError
from alignzoo.system.files import write_atomically

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
shard_option = click.option(
    "--shard-gb",
    type=click.FloatRange(0, min_open=True),
    default=50,
    show_default=True,
    help="Largest file of weights, in GB (10^9 bytes).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


@contextlib.contextmanager
def libraries_on_stderr(as_json: bool) -> Iterator[None]:
    """Send what libraries print to stderr, where JSON is all that may stand on stdout."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield


def refuse_existing(target: Path) -> None:
    """Refuse to write a folder over what is there.

    Raises:
        UserError: it is there.
    """
    if target.exists():
        raise UserError(f"--to {target} is there already: name a folder that is not.")


@contextlib.contextmanager
def writing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which then becomes ``target``; after an error nothing of it is left.

    Raises:
        UserError: the disk is full, or the folder cannot be made.
    """
    with explain_full_disk(target.parent, f"{target} was not written", "and run it again"):
        try:
            with write_atomically(target) as aside:
                aside.mkdir(parents=True)
                yield aside
        except PermissionError as error:
            raise UserError(f"--to {target} cannot be written: {error.strerror}.") from error


def print_json(value: Any, ascii_only: bool = True) -> None:
    """Print ``value`` as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=ascii_only))

"""Tells users of mistakes that they can mend."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Something the user can mend. Its text says what is wrong, where, and what to do, in one or two lines.

    The command line prints the text and exits with code 1; no traceback is shown.
    """


def find_nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of ``known`` that ``word`` was probably meant to be, best first."""
    return difflib.get_close_matches(word, sorted(known), n=count, cutoff=0.6)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean x or y?`` with a leading space, or an empty string where nothing is near."""
    near = find_nearest(word, known)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def explain_missing(path: str | Path) -> str:
    """Return, with a leading space, what there is in place of what ``path`` names: a near name, or where it looked."""
    path = Path(path).expanduser()
    if path.is_file():
        return " It is a file."
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = [child.name for child in path.parent.iterdir()]
    return did_you_mean(path.name, names) or f" Looked in {path.parent.resolve()}."


def explain_arguments(error: TypeError, called: type) -> str:
    """Return what ``error`` says of the arguments that the constructor of ``called`` does not take, on any Python."""
    text = str(error).split("__init__() ")[-1].partition(" Did you mean")[0].rstrip(".")
    wrong = re.search("unexpected keyword argument '(.+)'$", text)
    return f"{text}.{did_you_mean(wrong[1], inspect.signature(called).parameters) if wrong else ''}"


def print_error(text: str) -> int:
    """Print ``text`` as the command line does, and return its exit code."""
    print(f"alignzoo: {text}", file=sys.stderr)
    return 1

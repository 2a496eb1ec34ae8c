"""Reads text files that somebody else may have written or damaged: whatever a parser raises becomes one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alignzoo.system.errors import UserError

T = TypeVar("T")


def parse_file(path: Path, parse: Callable[[str], T]) -> T:
    """Return what ``parse`` makes of the text in ``path``.

    Parsers of foreign bytes raise more kinds than they document: PyYAML alone a KeyError for ``!!bool x``, an
    IndexError for ``!!int ''`` and a RecursionError for brackets within brackets. So none is named here.

    Raises:
        UserError: the file is missing or cannot be read; the text names the file and the reason.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}.") from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be read: {describe_parser_error(error)}.") from None


def describe_parser_error(error: Exception) -> str:
    """Return in a few words what a parser says of a text."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem and mark:  # YAML's
        return f"line {mark.line + 1}: {problem}"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not written in UTF-8 ({error.reason})"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = str(error) if isinstance(error, ValueError | OSError) else ""
    return " ".join((said or f"{type(error).__name__} {error}").split())[:200].rstrip(".")

"""Defines the error that a failing check raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alignzoo.system.errors import UserError


class NotConforming(AssertionError):
    """A method does not keep the contract. Its text says what is wrong, and how to fix it."""

    def __init__(self, method: str, wrong: str, fix: str) -> None:
        super().__init__(f"{method}: {wrong}\nFix: {fix}")


@contextmanager
def explain_failures(method: str, doing: str, fix: str) -> Iterator[None]:
    """Turn what is raised inside into a :class:`NotConforming`; a :class:`UserError` gets no traceback."""
    try:
        yield
    except NotConforming:
        raise
    except UserError as error:
        raise NotConforming(method, f"{doing}: {error}", fix) from None
    except Exception as error:
        raise NotConforming(method, f"{doing}: {type(error).__name__}: {error}", fix) from error

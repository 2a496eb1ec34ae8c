"""What a check of the kit says of a method that does not keep the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alignzoo.system.errors import UserError


class NotConforming(AssertionError):
    """A method does not keep the contract. Its text says what is wrong, and ends with what mends it."""

    def __init__(self, method: str, wrong: str, fix: str) -> None:
        super().__init__(f"{method}: {wrong}\nFix: {fix}")


@contextmanager
def explain_failures(method: str, doing: str, fix: str) -> Iterator[None]:
    """Turn what is raised inside into a :class:`NotConforming`; a mistake that alignzoo explains has no traceback."""
    try:
        yield
    except NotConforming:
        raise
    except UserError as error:
        raise NotConforming(method, f"{doing}: {error}", fix) from None
    except Exception as error:
        raise NotConforming(method, f"{doing}: {type(error).__name__}: {error}", fix) from error

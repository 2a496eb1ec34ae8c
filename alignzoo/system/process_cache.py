"""What the members of a sweep share in one process: made for the first, and handed unchanged to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Thing = TypeVar("Thing")

_kept: dict[str, tuple[str, Any]] = {}
_sweeping = False


def sweep(sweeping: bool) -> None:
    """Say whether the run that begins is a member of a sweep; if not, let go of everything."""
    global _sweeping
    _sweeping = sweeping
    if not sweeping:
        _kept.clear()


def sweeping() -> bool:
    """Return whether the run is a member of a sweep."""
    return _sweeping


def kept(name: str, key: str, make: Callable[[], Thing]) -> Thing:
    """Return what ``make`` returns; within a sweep, what it returned for the member before, if ``key`` is the same.

    One thing is kept under each name, so that memory does not grow from member to member. It must not be changed.
    """
    if not _sweeping:
        return make()
    if name in _kept and _kept[name][0] == key:
        thing: Thing = _kept[name][1]
        return thing
    _kept.pop(name, None)  # before the next is made: two models may not fit
    _kept[name] = key, make()
    thing = _kept[name][1]
    return thing


def forget(name: str) -> None:
    """Let go of what is kept under ``name``."""
    _kept.pop(name, None)

"""Methods on single completions that are marked good or bad, one short file each."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .kto import KTO

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (KTO,)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods on single completions."""
    return METHODS

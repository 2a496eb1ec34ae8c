"""Methods that sample completions and learn from rewards, one short file each."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .grpo import GRPO
from .rloo import RLOO

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (GRPO, RLOO)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods that sample."""
    return METHODS

"""Methods that learn from a teacher: a second, frozen model, whose next-token distribution the policy comes to have."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .gkd import GKD
from .minillm import MiniLLM
from .opd import OPD

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (GKD, MiniLLM, OPD)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods that learn from a teacher."""
    return METHODS

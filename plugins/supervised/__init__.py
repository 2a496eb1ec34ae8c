"""Methods on good completions alone, one short file each."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .dft import DFT
from .sft import SFT

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (DFT, SFT)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods on good completions."""
    return METHODS

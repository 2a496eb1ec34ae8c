"""Methods on single completions that are marked good or bad, one short file each."""

from __future__ import annotations

from collections.abc import Iterable

from alignzoo import Method, hookimpl

from .apo_zero_unpaired import APOZeroUnpaired
from .bco_unpaired import BCOUnpaired
from .kto import KTO

#: In the order of the alphabet; `list` sorts by name.
METHODS: tuple[type[Method], ...] = (APOZeroUnpaired, BCOUnpaired, KTO)


@hookimpl
def alignzoo_methods() -> Iterable[type[Method]]:
    """Return the methods on single completions."""
    return METHODS

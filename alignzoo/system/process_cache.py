"""Caches what the jobs of a sweep share in one process: made for the first, and handed unchanged to the next."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Thing = TypeVar("Thing")


class ProcessCache:
    """Holds one thing under each name, so that memory does not grow from job to job."""

    def __init__(self) -> None:
        self.in_sweep = False
        """Whether the run is a sweep's job; what runs by itself caches nothing."""

        self._things: dict[str, tuple[str, Any]] = {}

    def begin_job(self, in_sweep: bool) -> None:
        """Say whether the run that begins is a sweep's job; if not, drop everything."""
        self.in_sweep = in_sweep
        if not in_sweep:
            self._things.clear()

    def get(self, name: str, key: str, make: Callable[[], Thing]) -> Thing:
        """Return what ``make`` returns, or what it returned for the job before if ``key`` is the same.

        It must not be changed.
        """
        if not self.in_sweep:
            return make()
        if name not in self._things or self._things[name][0] != key:
            self._things.pop(name, None)  # before the next is made: two models may not fit
            self._things[name] = key, make()
        thing: Thing = self._things[name][1]
        return thing

    def drop(self, name: str) -> None:
        """Forget what is cached under ``name``."""
        self._things.pop(name, None)


@functools.cache
def process_cache() -> ProcessCache:
    """Return this process's cache."""
    return ProcessCache()

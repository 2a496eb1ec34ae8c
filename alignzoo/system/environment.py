"""Restores the environment variables that a piece of work changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def restore_environment(**changes: str | None) -> Iterator[None]:
    """Set the variables ``changes``, where None removes one; at the end all variables are what they were before."""
    before = dict(os.environ)
    try:
        for name, value in changes.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)

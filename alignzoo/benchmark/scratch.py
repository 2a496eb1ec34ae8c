"""Gives the benchmark a cache of its own, which is removed after it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignzoo.system import cache
from alignzoo.system.environment import restore_environment


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder, in which ``cache`` is alignzoo's cache meanwhile, also for the processes that are started."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with restore_environment(ALIGNZOO_CACHE=str(link_models(folder / "cache"))):
            yield folder


def link_models(folder: Path) -> Path:
    """Return ``folder`` with the real cache's models in it: all else is to be made anew."""
    link = folder / "models"
    if not link.exists():
        folder.mkdir(parents=True, exist_ok=True)
        link.symlink_to(cache.make_folder("models"))
    return folder

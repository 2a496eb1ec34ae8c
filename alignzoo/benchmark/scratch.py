"""A cache of the benchmark's own, so that what it makes is neither found there before nor left behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignzoo.system import cache


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a new folder, in which ``cache`` is alignzoo's cache meanwhile, also for the processes that are started."""
    known = os.environ.get("ALIGNZOO_CACHE")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ALIGNZOO_CACHE"] = str(with_models(folder / "cache"))
        try:
            yield folder
        finally:
            os.environ.pop("ALIGNZOO_CACHE")
            if known is not None:
                os.environ["ALIGNZOO_CACHE"] = known


def with_models(folder: Path) -> Path:
    """Return ``folder`` with the real cache's models in it: all else is to be made anew."""
    link = folder / "models"
    if not link.exists():
        folder.mkdir(parents=True, exist_ok=True)
        link.symlink_to(cache.folder("models"))
    return folder

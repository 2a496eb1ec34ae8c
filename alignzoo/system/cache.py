"""Caches on disk what can be made again: converted models, tokenised rows, reference log-probabilities."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from alignzoo.system.errors import UserError

#: What each folder holds; `cache clear` removes these unless it is given names.
CONTENTS = {
    "models": "start models",
    "rows": "tokenised rows",
    "measured": "start models' measurements",
    "reference": "reference log-probabilities",
}

#: The folders that stay below the limit. A model in use is read again at the end of a run, so models stay.
LIMITED = ("rows", "measured", "reference")

LIMIT_GB = 20.0  #: GB (10^9 bytes) of these, unless ALIGNZOO_CACHE_GB says otherwise
IN_USE = 3600.0  #: seconds since its last use within which a file counts as in use, and stays


@dataclass(frozen=True)
class CachedFolder:
    """One folder of the cache: its name, how many files it holds, their bytes, and when one was last used."""

    name: str
    files: int
    size: int
    used: float
    """Seconds since the epoch; 0 where there is no file."""


def root() -> Path:
    """Return the cache's folder: $ALIGNZOO_CACHE, or ~/.cache/alignzoo. It may not exist."""
    parent = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("ALIGNZOO_CACHE") or os.path.join(parent, "alignzoo"))


def make_folder(name: str) -> Path:
    """Return the cache's folder ``name``, made if need be.

    Raises:
        UserError: it cannot be made or written.
    """
    path = root() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache {path} cannot be made ({error.strerror}): set ALIGNZOO_CACHE to a writable folder."
        ) from None
    return path


def mark_used(file: Path) -> None:
    """Remember that ``file`` was used now, since the cache forgets what was used longest ago."""
    with contextlib.suppress(OSError):  # another user's, another machine's, or gone
        os.utime(file)


def read_limit() -> int:
    """Return the bytes that :data:`LIMITED` may take together.

    Raises:
        UserError: $ALIGNZOO_CACHE_GB is not a number, or negative.
    """
    text = os.environ.get("ALIGNZOO_CACHE_GB") or str(LIMIT_GB)
    with contextlib.suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return int(float(text) * 1e9)
    raise UserError(f"ALIGNZOO_CACHE_GB={text} is not a size: use gigabytes, e.g. {LIMIT_GB:g}.")


def trim() -> None:
    """Remove the files of :data:`LIMITED` that were used longest ago, until the rest is below the limit."""
    files = sorted((stat.st_mtime, stat.st_size, file) for name in LIMITED for file, stat in _files(root() / name))
    excess = sum(size for _, size, _ in files) - read_limit()
    for used, size, file in files:
        if excess <= 0 or time.time() - used < IN_USE:
            return
        with contextlib.suppress(OSError):  # another process was first, or the file is another user's
            file.unlink()
            excess -= size


def list_folders() -> list[CachedFolder]:
    """Return each folder of the cache, those that alignzoo makes first."""
    there = [path.name for path in sorted(root().iterdir()) if path.is_dir()] if root().is_dir() else []
    found = []
    for name in dict.fromkeys([*CONTENTS, *there]):
        stats = [stat for _, stat in _files(root() / name)]
        used = max((stat.st_mtime for stat in stats), default=0.0)
        found.append(CachedFolder(name, len(stats), sum(stat.st_size for stat in stats), used))
    return found


def clear(names: list[str]) -> int:
    """Remove the folders ``names``; return the bytes that are free now."""
    before = sum(folder.size for folder in list_folders())
    for name in names:
        shutil.rmtree(root() / name, ignore_errors=True)
    return before - sum(folder.size for folder in list_folders())


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Return the files below ``folder``; one that another process removes meanwhile is left out."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                found.append((path, path.stat()))
    return found

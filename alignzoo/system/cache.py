"""Caches on disk what can be made again: converted models, tokenised rows, reference log-probabilities.

An entry is a folder with a seal, which is checked when it is read: a damaged entry is named, removed and made anew.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from alignzoo.system.disk import explain_full_disk
from alignzoo.system.errors import UserError
from alignzoo.system.files import remove_whole, write_atomically
from alignzoo.system.seal import Damaged, check_seal, write_seal

log = logging.getLogger(__name__)

SEAL = "seal.json"

#: What each folder holds; `cache clear` removes these unless it is given names.
CONTENTS = {
    "models": "start models",
    "rows": "tokenised rows",
    "measured": "start models' measurements",
    "generated": "sampled answers",
    "reference": "reference log-probabilities",
    "speed": "whether sharing prompts is faster",
}

#: The folders that stay below the limit. A model in use is read again at the end of a run, so models stay.
LIMITED = ("rows", "measured", "generated", "reference")

ELSEWHERE = "or set ALIGNZOO_CACHE to a folder on another disk"  #: what to do where the cache's is full

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


def mark_used(entry: Path) -> None:
    """Remember that ``entry`` was used now, since the cache forgets what was used longest ago."""
    with contextlib.suppress(OSError):  # another user's, another machine's, or gone
        os.utime(entry)


def open_entry(entry: Path) -> Path | None:
    """Return the folder ``entry`` if it is as it was written; None where it is to be made.

    A damaged one is named and removed. A process checks the same files once.

    Raises:
        UserError: it is damaged, and cannot be removed.
    """
    if not entry.exists():
        return None
    damage = _find_damage(entry, _list_stats(entry))
    if damage is None:
        return entry
    log.warning("the cache's %s is damaged and is made anew: %s", entry, damage)
    remove_whole(entry)
    if entry.exists():
        raise UserError(
            f"{entry} is damaged and cannot be removed: remove it, or set ALIGNZOO_CACHE to another folder."
        )
    return None


@contextlib.contextmanager
def write_entry(entry: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it then becomes ``entry``, sealed, unless another process was first.

    Raises:
        UserError: the disk is full; nothing of it is left.
        OSError: it cannot be written for another reason.
    """
    with explain_full_disk(entry.parent, f"{entry.name} of the cache was not saved", ELSEWHERE):
        try:
            with write_atomically(entry) as aside:
                aside.mkdir(parents=True)
                yield aside
                write_seal(aside, SEAL, {})
        except OSError:
            if not entry.is_dir() or _find_damage(entry, _list_stats(entry)):
                raise


def explain_full_cache(what: str) -> contextlib.AbstractContextManager[None]:
    """Raise a :class:`UserError` in place of what a full disk of the cache raises while ``what`` are not made yet.

    For what libraries write beside the rows that they read: datasets does wherever it maps some.
    """
    return explain_full_disk(root(), f"{what} could not be kept in the cache", ELSEWHERE)


@functools.lru_cache(maxsize=1000)
def _find_damage(entry: Path, stats: tuple[object, ...]) -> str | None:
    """Return what is wrong with the entry, whose files have these ``stats``, or None."""
    try:
        check_seal(entry, SEAL)
    except Damaged as damage:
        return str(damage)
    return None


def _list_stats(entry: Path) -> tuple[object, ...]:
    """Return what changes with the files of ``entry``, and is quick to read."""
    return tuple(sorted((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in _files(entry)))


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
    """Remove the entries of :data:`LIMITED` that were used longest ago, until the rest is below the limit."""
    entries = sorted(entry for name in LIMITED for entry in _list_entries(root() / name))
    excess = sum(size for _, size, _ in entries) - read_limit()
    for used, size, path in entries:
        if excess <= 0 or time.time() - used < IN_USE:
            return
        remove_whole(path)
        excess -= 0 if path.exists() else size


def _list_entries(folder: Path) -> list[tuple[float, int, Path]]:
    """Return when each entry below ``folder`` was used, its bytes and its path; a file without a seal is one itself."""
    files = _files(folder)
    sealed = {path.parent for path, _ in files if path.name == SEAL}
    sizes: dict[Path, int] = defaultdict(int)
    used: dict[Path, float] = defaultdict(float)
    for path, stat in files:
        entry = path.parent if path.parent in sealed else path
        sizes[entry] += stat.st_size
        used[entry] = max(used[entry], stat.st_mtime)
    for entry in sealed:
        with contextlib.suppress(OSError):  # another process was first
            used[entry] = entry.stat().st_mtime
    return [(used[entry], sizes[entry], entry) for entry in sizes]


def list_folders() -> list[CachedFolder]:
    """Return each folder of the cache, those that alignzoo makes first."""
    there = [path.name for path in sorted(root().iterdir()) if path.is_dir()] if root().is_dir() else []
    found = []
    for name in dict.fromkeys([*CONTENTS, *there]):
        entries = _list_entries(root() / name)
        used = max((used for used, _, _ in entries), default=0.0)
        found.append(CachedFolder(name, len(_files(root() / name)), sum(size for _, size, _ in entries), used))
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

"""Writes files and folders so that a kill leaves none of them half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield where to write a file or a folder; it is renamed to ``path`` when it is whole, and removed after an error.

    Raises:
        OSError: ``path`` is a folder that another process has made meanwhile.
    """
    aside = _name_aside(path)
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        _remove(aside)
        raise


def remove_whole(path: Path) -> None:
    """Remove a file or a folder, which is gone at once: nobody finds half of it, not even after a kill.

    What cannot be removed, such as another user's, stays.
    """
    aside = _name_aside(path)
    with contextlib.suppress(OSError):
        path.rename(aside)
        _remove(aside)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what a process that was killed in :func:`write_atomically` left in ``folder`` for ``name``."""
    for aside in folder.glob(f".{name}.{'[0-9a-f]' * 32}"):
        _remove(aside)


def put_in_place(whole: Path, target: Path) -> None:
    """Rename a folder that is whole to ``target``, in place of the one that is there; a crash does not undo it.

    A kill meanwhile leaves no half of the one that was there; what it left goes with :func:`remove_unfinished`.

    Raises:
        OSError: the one that is there cannot be removed.
    """
    if target.exists():
        remove_whole(target)
    whole.rename(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the folder's names
    finally:
        os.close(descriptor)


def hash_files(files: Iterable[Path]) -> str:
    """Return the SHA-256 of the contents of ``files``, in their order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _name_aside(path: Path) -> Path:
    """Return a name beside ``path`` that no other process has, on whichever machine."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # of a link, the link
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

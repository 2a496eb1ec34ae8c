"""One run folder, one run: a lock that the kernel takes back when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from alignzoo.system.errors import UserError

log = logging.getLogger(__name__)

FILE = ".lock"


class InUse(UserError):
    """Another process runs in the folder, whose files must not be touched."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``, which exists.

    Raises:
        InUse: another process holds it.
    """
    path = folder / FILE
    with path.open("a+", encoding="utf-8") as stream:
        _take(stream.fileno(), path)
        stream.truncate(0)
        print(f"process {os.getpid()} on {socket.gethostname()}", file=stream, flush=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = _read(descriptor) or "another process"
        raise InUse(f"{path.parent} is in use by {owner}: wait for it, or choose another hydra.run.dir.") from None
    except OSError as error:  # some network file systems have no locks
        log.warning("%s cannot be locked (%s): do not start a second run on it.", path.parent, error.strerror)
        return
    if not _still(descriptor, path):  # its last owner has just finished and removed it
        raise InUse(f"{path.parent} was in use until this moment: start again.")


def _read(descriptor: int) -> str:
    """Return what the owner wrote, by the file that was opened: its name is gone where the owner finishes now."""
    return os.pread(descriptor, 1_000, 0).decode(errors="replace").strip()


def _still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

"""Locks a run folder for one process; the kernel takes the lock back when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from alignzoo.system.errors import UserError

log = logging.getLogger(__name__)

FILE = ".lock"
GLANCE = 0.01  #: seconds to wait for :func:`is_locked` elsewhere, which holds the lock for an instant


class InUse(UserError):
    """Another process runs in the folder, whose files must not be touched."""


@contextlib.contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``, which exists.

    Raises:
        InUse: another process holds it.
        UserError: the folder is gone, or cannot be written.
    """
    path = folder / FILE
    try:
        opened = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): is {folder} still there?") from None
    with opened as stream:
        _acquire(stream.fileno(), path)
        stream.truncate(0)
        print(_name_process(), file=stream, flush=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def remove_left_lock(folder: Path) -> None:
    """Remove the file that a killed process left in ``folder``; where one holds the lock, nothing happens."""
    if (folder / FILE).exists():
        with contextlib.suppress(UserError), hold_lock(folder):
            pass


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds the lock of ``folder``, and write nothing; a file alone was left by a kill."""
    try:
        with (folder / FILE).open("rb") as stream:
            return not _try_lock(stream.fileno(), fcntl.LOCK_SH)
    except OSError:  # no such file, or a file system without locks
        return False


def is_taken(folder: Path) -> bool:
    """Tell whether another process has begun in ``folder`` since this one has: it was removed and made anew between."""
    return _read_name(folder) not in ("", _name_process())


def is_locked_elsewhere(folder: Path) -> bool:
    """Tell whether a process of another machine has left its name in ``folder``: it runs, or was killed."""
    name = _read_name(folder)
    return " on " in name and name.rpartition(" on ")[2] != socket.gethostname()


def _read_name(folder: Path) -> str:
    """Return what the process that locked ``folder`` wrote; empty where none has."""
    with contextlib.suppress(OSError):
        return (folder / FILE).read_text(encoding="utf-8", errors="replace").strip()
    return ""


def _name_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _acquire(descriptor: int, path: Path) -> None:
    try:
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if not _try_lock(descriptor, fcntl.LOCK_SH):
                owner = _read_owner(descriptor) or "another process"
                raise InUse(f"{path.parent} is in use by {owner}: wait for it, or choose another hydra.run.dir.")
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(GLANCE)  # nobody has it for itself: somebody only looks whether anybody does
    except OSError as error:  # some network file systems have no locks
        log.warning("%s cannot be locked (%s): do not start a second run on it.", path.parent, error.strerror)
        return
    if not _is_file_at(descriptor, path):  # its last owner has just finished and removed it
        raise InUse(f"{path.parent} was in use until this moment: start again.")


def _try_lock(descriptor: int, kind: int) -> bool:
    """Take a lock that is exclusive or shared, if no other process has one against it; return whether it was taken."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(descriptor: int) -> str:
    """Return what the owner wrote, by the file that was opened: its name is gone where the owner finishes now."""
    return os.pread(descriptor, 1_000, 0).decode(errors="replace").strip()


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

"""Explains the errors of a machine at its limits: no memory, a file or thread that the shell refuses, a full disk."""

from __future__ import annotations

import errno
import resource
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignzoo.system.errors import UserError

#: What libraries say where Python itself would raise a MemoryError.
NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "cuda out of memory",
    "hip out of memory",
    "mps backend out of memory",
    "failed to map segment",
    "unable to mmap",
    "bad_alloc",
    "memory allocation failed",
)
NEAR = 0.9  #: share of the address space's limit from which on a failed import is one of memory
FULL = (errno.ENOSPC, errno.EDQUOT)


def explain_limit(error: BaseException, folder: Path | None = None) -> str | None:
    """Return one or two lines for an error that comes from a limit of the machine or its shell, else None.

    ``folder``: where was written, if the error does not say so itself.
    """
    links = list(_list_causes(error))
    for link in links:
        if isinstance(link, MemoryError) or _says(link, *NO_MEMORY) or _errno(link) == errno.ENOMEM:
            for each in links:
                traceback.clear_frames(each.__traceback__)  # what they hold is needed to end in order
            return _explain_memory(link)
        if is_file_refused(link):
            return f"a file would be larger than this shell allows ({describe_file_limit()}): raise it."
        if _is_of_full_disk(link):
            return _explain_full_disk(link, folder)
        if isinstance(link, RuntimeError) and _says(link, "can't start new thread"):
            return "the machine allows no more threads: raise `ulimit -u`, or run fewer programs at once."
        if isinstance(link, UnicodeEncodeError) and link.reason == "surrogates not allowed":
            encoding = sys.getfilesystemencoding()
            return f"a path holds bytes that are not {encoding}: set LC_ALL=C.UTF-8, or take a path without them."
    starved = isinstance(error, ImportError | OSError | SystemError) and _is_address_space_used()
    return _explain_memory(error) if starved else None


@contextmanager
def explain_limits() -> Iterator[None]:
    """Raise a :class:`UserError` in place of an error that :func:`explain_limit` explains."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = explain_limit(error)
        if text is None:
            raise
        raise UserError(text) from error


def is_file_refused(error: BaseException) -> bool:
    """Tell whether ``error`` comes from a file that would be larger than the shell allows (``ulimit -f``)."""
    torch = _has_limit(resource.RLIMIT_FSIZE) and _says(error, "pytorchstreamwriter", "inline_container")
    return torch or _errno(error) == errno.EFBIG or _says(error, "file too large")


def describe_file_limit() -> str:
    """Return the shell's limit of a file's size, as a sentence shows it in brackets."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return "ulimit -f" if limit == resource.RLIM_INFINITY else f"ulimit -f: {format_bytes(limit)}"


def format_seconds(seconds: float) -> str:
    """Return seconds as a reader takes them in: 40 s, 25 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_bytes(size: float) -> str:
    """Return bytes in the largest unit that leaves a number above 1."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size:.0f} B"


def _explain_memory(error: BaseException) -> str:
    said = f" ({_first_line(error)})" if str(error) else ""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if _has_limit(resource.RLIMIT_AS):
        return f"out of memory{said}.\nThis shell allows {format_bytes(limit)} (ulimit -v): raise it, or take less."
    return f"out of memory{said}.\nTake less at once: `alignzoo plan` says what fits, with which strategy and adapter."


def is_of_full_disk(error: BaseException) -> bool:
    """Tell whether a full disk or a quota has caused ``error``, whatever libraries have made of it."""
    return any(map(_is_of_full_disk, _list_causes(error)))


def _is_of_full_disk(error: BaseException) -> bool:
    return _errno(error) in FULL or _says(error, "no space left", "quota exceeded")


def _explain_full_disk(error: BaseException, folder: Path | None) -> str:
    named = getattr(error, "filename", None)
    where = named if isinstance(named, str) else folder
    reason = getattr(error, "strerror", None) or _first_line(error)
    return f"the disk{f' of {where}' if where else ''} is full ({reason}): free some, and start it again."


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _says(error: BaseException, *texts: str) -> bool:
    said = str(error).lower()
    return any(text in said for text in texts)


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160].rstrip(".")


def _has_limit(kind: int) -> bool:
    return resource.getrlimit(kind)[0] != resource.RLIM_INFINITY


def _is_address_space_used() -> bool:
    """Tell whether this process has come near the limit of its address space (on Linux)."""
    if not _has_limit(resource.RLIMIT_AS):
        return False
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            peak = next(int(line.split()[1]) for line in status if line.startswith("VmPeak:")) * 1024
    except (OSError, StopIteration, ValueError):
        return False
    return peak > NEAR * resource.getrlimit(resource.RLIMIT_AS)[0]

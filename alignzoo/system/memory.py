"""Reads the memory that this process holds and its peak, and gives unused memory back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

PROCESS = Path("/proc/self")  #: Linux alone has it


def read_resident() -> int:
    """Return the bytes that this process holds now; its peak where the system does not say."""
    return _status("VmRSS") or _largest()


def read_unbacked() -> int:
    """Return the bytes of them that no file backs: not its pages, which the system takes back as it likes."""
    return _status("RssAnon", "RssShmem") or _largest()


def read_peak() -> int:
    """Return the most bytes that this process held since :func:`reset_peak`, or since it began."""
    return _status("VmHWM") or _largest()


def free_unused() -> None:
    """Give what was freed back to the system, which the C library keeps; glibc alone can."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> None:
    """Give what was freed back to the system, and count the peak anew; Linux alone can."""
    free_unused()
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")


def leaves_gaps() -> bool:
    """Tell whether glibc allocates, and no other library that was loaded before it, such as jemalloc."""
    here = ctypes.CDLL(None)
    return hasattr(here, "gnu_get_libc_version") and not hasattr(here, "mallctl") and not hasattr(here, "mi_malloc")


def _status(*names: str) -> int:
    """Return the sum of these lines of the process's status; 0 where there is none."""
    try:
        lines = (PROCESS / "status").read_text().splitlines()
    except OSError:
        return 0
    found = dict(line.split(":", 1) for line in lines)
    return 1024 * sum(int(found[name].split()[0]) for name in names)


def _largest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

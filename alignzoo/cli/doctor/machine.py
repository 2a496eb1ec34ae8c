"""Checks the machine: Python, memory, disk, shared memory, open files, kernel."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from alignzoo.cli.doctor.check import Check, broken, ok, warning
from alignzoo.system import cache

SECTION = "machine"
GIB = 2**30

MEMORY = 6 * GIB  #: the default run's peak on a CPU is 4.7 GB, beside the operating system
DISK = 10 * GIB  #: a 1.5B model in float32, before and after
SHARED = GIB  #: Docker's own is 64 MiB, with which NCCL and data loaders die; 1 GiB is where NCCL's tests pass
FILES = 1024  #: Arrow files, safetensors shards and sockets of the data loaders are open at once
KERNEL = (5, 5)  #: accelerate warns below: processes can hang (accelerate.utils.other.check_os_kernel)


def check_machine() -> Iterator[Check]:
    """Yield what this machine offers."""
    yield ok(SECTION, "python", f"{platform.python_version()} at {sys.executable}")
    yield from _memory()
    yield from _disk()
    yield from _shared_memory()
    yield from _open_files()
    yield from _kernel()


def _memory() -> Iterator[Check]:
    total, free = read_memory()
    found = f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB free"
    if free < MEMORY:
        yield warning(SECTION, "memory", found, "use model=tiny or peft=lora, or close what else is running")
    else:
        yield ok(SECTION, "memory", found)


def read_memory(root: Path = Path("/")) -> tuple[float, float]:
    """Return total and free bytes of memory; a container's limit, below ``root``, counts where it is lower."""
    import psutil

    machine = psutil.virtual_memory()
    total, free = float(machine.total), float(machine.available)
    try:
        limit = float((root / "sys/fs/cgroup/memory.max").read_text())
        used = float((root / "sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no limit, which reads "max", or another kind of system
        return total, free
    return min(total, limit), min(free, limit - used)


def _disk() -> Iterator[Check]:
    places: dict[str, tuple[Callable[[], Path], str]] = {
        "cache": (cache.root, "ALIGNZOO_CACHE"),
        "runs": (Path.cwd, "hydra.run.dir"),
    }
    for name, (find, key) in places.items():
        try:
            folder = find().absolute()
            there = next(path for path in (folder, *folder.parents) if path.exists())  # a check makes no folder
            writable, free = there.is_dir() and os.access(there, os.W_OK), shutil.disk_usage(there).free
        except OSError as error:
            yield broken(SECTION, name, str(error), f"set {key} to a writable folder")
            continue
        found = f"{folder.resolve()}, {free / GIB:.1f} GiB free"
        if not writable:
            yield broken(SECTION, name, f"{folder.resolve()} cannot be written", f"set {key} to a writable folder")
        elif free < DISK:
            yield warning(SECTION, name, found, f"free some, or point {key} to another disk")
        else:
            yield ok(SECTION, name, found)


def _shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Check]:
    if not folder.is_dir():
        return
    size = shutil.disk_usage(folder).total
    if size < SHARED:
        fix = "several GPUs need more: docker run --shm-size=8g, or --ipc=host"
        yield warning(SECTION, "shared memory", f"{size / 2**20:.0f} MiB in {folder}", fix)
    else:
        yield ok(SECTION, "shared memory", f"{size / GIB:.1f} GiB in {folder}")


def _open_files() -> Iterator[Check]:
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        yield warning(SECTION, "open files", f"at most {soft}", "ulimit -n 65536")
    else:
        yield ok(SECTION, "open files", "no limit" if soft == resource.RLIM_INFINITY else f"at most {soft:,}")


def _kernel() -> Iterator[Check]:
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    if platform.system() != "Linux" or not match:
        return
    if (int(match[1]), int(match[2])) < KERNEL:
        fix = "upgrade the kernel: below 5.5 runs with several processes can hang"
        yield warning(SECTION, "kernel", platform.release(), fix)
    else:
        yield ok(SECTION, "kernel", platform.release())

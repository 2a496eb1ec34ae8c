"""Checks torch, the device and precision of a run, and whether the driver fits."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from alignzoo.cli.doctor.check import Check, broken, ok, warning

SECTION = "device"
GIB = 2**30

#: CUDA's major version -> the oldest NVIDIA driver on Linux that runs it (CUDA Toolkit release notes, table "minor
#: version compatibility").
DRIVERS = {11: 450, 12: 525, 13: 580}


def check_device() -> Iterator[Check]:
    """Yield torch's build, the GPUs and what a run would choose. Imports torch."""
    try:
        import torch
    except Exception as error:  # a broken build raises OSError, RuntimeError and more
        said = next(iter(str(error).splitlines()), type(error).__name__)
        yield broken(SECTION, "torch", f"cannot be imported: {said}", "pip install --force-reinstall torch")
        return
    build = torch.version.cuda
    driver = driver_version()
    yield ok(SECTION, "torch", f"{torch.__version__}, built for {f'CUDA {build}' if build else 'no NVIDIA GPU'}")
    yield from check_driver(build, driver, bool(torch.cuda.is_available()))
    yield from _chosen(torch)


def driver_version() -> str | None:
    """Return the NVIDIA driver's version, or None where there is no driver that answers."""
    if not shutil.which("nvidia-smi"):
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def check_driver(build: str | None, driver: str | None, available: bool) -> Iterator[Check]:
    """Yield whether a torch built for CUDA ``build`` runs on ``driver``; ``available`` is what torch says of itself."""
    if driver is None:
        return
    if build is None:
        fix = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"
        yield broken(SECTION, "driver", f"{driver}, but this torch is built without CUDA: the GPU is not used", fix)
        return
    oldest = DRIVERS.get(int(build.split(".")[0]), 0)
    if int(driver.split(".")[0]) < oldest:
        found = f"{driver} is too old for torch's CUDA {build}, which needs {oldest} or newer"
        yield broken(SECTION, "driver", found, "upgrade the driver, or install a torch built for an older CUDA")
    elif not available:
        found = f"{driver}, but torch finds no GPU"
        yield broken(SECTION, "driver", found, "look at CUDA_VISIBLE_DEVICES and nvidia-smi; restart after an upgrade")
    else:
        yield ok(SECTION, "driver", f"{driver} for CUDA {build}")


def _chosen(torch: Any) -> Iterator[Check]:
    """Yield the GPUs, and the device and precision that ``auto`` would take."""
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gpu = torch.cuda.get_device_properties(index)
        free, _ = torch.cuda.mem_get_info(index)
        found = f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB, {free / GIB:.0f} GiB free"
        if free < gpu.total_memory / 2:
            yield warning(SECTION, f"gpu {index}", found, "another process uses it: nvidia-smi shows which")
        else:
            yield ok(SECTION, f"gpu {index}", found)
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device = next(name for name in has if has[name])
    real = device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
    found = f"{device}, in {'bf16' if real else 'fp32'}"
    if device == "cuda" and not real:
        fix = "train.precision=fp16 is faster here, and overflows more easily: bf16 needs an Ampere GPU or newer"
        yield warning(SECTION, "a run uses", found, fix)
    elif device == "cpu":
        yield ok(SECTION, "a run uses", f"{found}: enough for models of some 100M parameters")
    else:
        yield ok(SECTION, "a run uses", found)

"""Describes what a run was started with: installed packages, the checkout, the hardware."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
import sys
from typing import Any

from alignzoo.config.secrets import hide_in_code
from alignzoo.plugin.loading import read_name_and_version

#: Files whose changes are never shown, by their names.
SECRET_FILES = (
    *(".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ed25519*", ".netrc", "_netrc", ".pgpass"),
    *("*secret*", "*credential*", "*token*.json", "service*account*.json", ".npmrc", ".pypirc", ".htpasswd"),
)


def environment() -> dict[str, Any]:
    """Return versions of every installed package, the git commit and diff, and the hardware. No variable's value."""
    return {
        "python": platform.python_version(),
        "packages": _read_versions(tuple(sys.path)),
        "git": _git(),
        "hardware": _hardware(),
    }


@functools.cache
def _read_versions(path: tuple[str, ...]) -> dict[str, str]:
    """Return the version of every package in the folders of ``path``; they are hundreds of files, read once."""
    found = importlib.metadata.distributions(path=[*path])
    versions = dict(read_name_and_version(distribution) for distribution in found)
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


def _git() -> dict[str, str] | None:
    """Return commit and uncommitted diff of the folder the run was started from, if it is a checkout.

    Files that hold secrets by their names are left out of the diff, and values that look like some are masked.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        diff = git("diff", "HEAD", "--", ".", *(f":(exclude,icase,glob,top)**/{name}" for name in SECRET_FILES))
        return {"commit": git("rev-parse", "HEAD"), "diff": hide_in_code(diff)}
    except (OSError, subprocess.SubprocessError):
        return None


def _hardware() -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": devices,
        "cuda": torch.version.cuda,
    }

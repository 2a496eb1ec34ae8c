"""Refuses what the disk has no room for, and explains the errors of a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignzoo.system.errors import UserError


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise :class:`UserError` if the disk of ``folder`` has fewer than ``needed`` bytes free for ``what``."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{what} needs {needed / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB left.\n"
            "Free some, or point ALIGNZOO_CACHE (models, rows) or hydra.run.dir (runs) to another disk."
        )


def is_disk_full(folder: Path, error: Exception) -> bool:
    """Tell whether a full disk has caused ``error``, for which each library has its own name."""
    return "No space left" in str(error) or shutil.disk_usage(folder).free < 1_000_000


@contextmanager
def explain_full_disk(folder: Path, lost: str) -> Iterator[None]:
    """Raise a :class:`UserError` in place of what a full disk of ``folder`` raises; ``lost``: what was not written."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not is_disk_full(folder, error):
            raise
        raise UserError(
            f"the disk of {folder} is full: {lost} was not saved, checkpoints before it are whole.\n"
            "Free some, and resume it with resume=auto."
        ) from error

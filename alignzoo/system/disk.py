"""Refuses what the disk has no room for, and explains the errors of a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignzoo.system.errors import UserError
from alignzoo.system.limits import describe_file_limit, format_bytes, is_file_refused, is_of_full_disk

#: What torch says of a file that it cannot write, without the reason: of a quota, `df` shows nothing either.
TORCH_WRITER = ("iostream error", "PytorchStreamWriter failed", "unexpected pos")


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise :class:`UserError` if the disk of ``folder`` has fewer than ``needed`` bytes free for ``what``."""
    free = _read_free(folder)
    if free < needed:
        raise UserError(
            f"{what} needs {format_bytes(needed)} in {folder}, which has {format_bytes(free)} left.\n"
            "Free some, or point ALIGNZOO_CACHE (models, rows) or hydra.run.dir (runs) to another disk."
        )


def is_disk_full(folder: Path, error: Exception) -> bool:
    """Tell whether a full disk has caused ``error``, for which each library has its own name."""
    return is_of_full_disk(error) or _read_free(folder) < 1_000_000


@contextmanager
def explain_full_disk(folder: Path, lost: str, then: str = "and resume it with resume=auto") -> Iterator[None]:
    """Raise a :class:`UserError` in place of what a full disk of ``folder`` raises.

    So it does where the shell refuses a file of that size.

    Args:
        folder: what is written lies below it.
        lost: what is not there, as a clause.
        then: what to do about it, beside making room.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_file_refused(error):
            problem, mend = f"{folder} cannot hold a file of that size ({describe_file_limit()})", "Raise it"
        elif is_disk_full(folder, error):
            problem, mend = f"the disk of {folder} is full", "Free some"
        elif any(text in str(error) for text in TORCH_WRITER):
            problem, mend = f"the disk of {folder} is full, or cannot be written", "Free some"
        else:
            raise
        raise UserError(f"{problem}: {lost}.\n{mend}, {then}.") from error


def _read_free(folder: Path) -> int:
    """Return the free bytes of the disk of ``folder``, which need not be there."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free

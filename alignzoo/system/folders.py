"""The folders that runs make: their parents are remembered, so that a mistake leaves none of them behind."""

from __future__ import annotations

import contextlib
from pathlib import Path

from alignzoo.system.errors import UserError

_made: list[Path] = []  #: folders that this process made, outermost first


def make(folder: Path) -> Path:
    """Make ``folder``, with its parents, and return it.

    Raises:
        UserError: it cannot be made or written.
    """
    missing = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _made.extend(reversed(missing))
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)  # another machine may be at it too
    except OSError as error:
        take_back()
        raise UserError(
            f"the run folder {folder} cannot be written ({error.strerror}): set hydra.run.dir=FOLDER."
        ) from None
    return folder


def take_back() -> None:
    """Remove what :func:`make` made, where nothing but Hydra's account of a sweep was written into it since."""
    while _made:
        folder = _made.pop()
        with contextlib.suppress(OSError):
            if [file.name for file in folder.iterdir()] == ["multirun.yaml"]:
                (folder / "multirun.yaml").unlink()
            folder.rmdir()

"""Makes the folders of runs, and removes those that a mistake left without a file."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

from alignzoo.system.errors import UserError


class RunFolders:
    """Makes folders and remembers which of them, and of their parents, were not there before."""

    def __init__(self) -> None:
        self._made: list[Path] = []
        """Outermost first."""

        self.last: Path | None = None
        """The folder that was asked for last: a run's, or a sweep's."""

    def make(self, folder: Path) -> Path:
        """Make ``folder``, with its parents, and return it.

        Raises:
            UserError: it cannot be made or written.
        """
        self.last = folder
        missing = [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._made.extend(reversed(missing))
            (folder / ".writable").touch()
            (folder / ".writable").unlink(missing_ok=True)  # another machine may be at it too
        except OSError as error:
            self.remove_empty()
            raise UserError(
                f"the run folder {folder} cannot be written ({error.strerror}): set hydra.run.dir=FOLDER."
            ) from None
        return folder

    def remove_empty(self) -> None:
        """Remove what :meth:`make` made, where nothing but Hydra's account of a sweep was written into it since."""
        while self._made:
            folder = self._made.pop()
            with contextlib.suppress(OSError):
                if [file.name for file in folder.iterdir()] == ["multirun.yaml"]:
                    (folder / "multirun.yaml").unlink()
                folder.rmdir()


@functools.cache
def run_folders() -> RunFolders:
    """Return this process's run folders."""
    return RunFolders()

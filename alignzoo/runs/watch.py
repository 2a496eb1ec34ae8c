"""Watches that the folder into which a run writes is still there: else half of it would come back as a whole one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alignzoo.runs.folder import CONFIG
from alignzoo.system.errors import UserError
from alignzoo.system.lock import InUse, is_taken


class FolderWatch:
    """What this process knows of the folder of its run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.has_begun = False
        """Whether this process has written what the run is; before that, and on other processes, nothing is looked at.

        Not the folder's inode: some network file systems give a folder another one each day.
        """

    def check(self) -> None:
        """Refuse to write on in a folder that was removed.

        Raises:
            UserError: it was removed.
            InUse: another run has begun in it meanwhile.
        """
        if not self.has_begun:
            return
        if is_taken(self.folder):
            raise InUse(f"{self.folder} was removed during the run, and another run has begun in it: this one ends.")
        if not (self.folder / CONFIG).is_file():
            raise UserError(f"{self.folder} was removed during the run, and what it held is lost: start it again.")

    @contextmanager
    def explain(self) -> Iterator[None]:
        """Raise what :meth:`check` does in place of the error to which the removal leads; at the end too.

        Raises:
            UserError: as :meth:`check`.
        """
        try:
            yield
        except UserError:
            raise
        except Exception:
            self.check()
            raise
        self.check()

"""Whether there is room before something is written."""

from __future__ import annotations

import shutil
from pathlib import Path

from alignzoo.errors import UserError


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

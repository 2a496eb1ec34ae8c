"""Where alignzoo keeps what it can make again: converted models, tokenised rows."""

from __future__ import annotations

import os
from pathlib import Path

from alignzoo.errors import UserError


def folder(name: str) -> Path:
    """Return the cache's folder ``name``, made if need be: under $ALIGNZOO_CACHE, or ~/.cache/alignzoo.

    Raises:
        UserError: it cannot be made or written.
    """
    root = os.environ.get("ALIGNZOO_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "alignzoo"
    )
    path = Path(root) / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache {path} cannot be made ({error.strerror}): set ALIGNZOO_CACHE to a writable folder."
        ) from None
    return path

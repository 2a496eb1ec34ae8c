"""Warns of an installed TRL that alignzoo is not tested with."""

from __future__ import annotations

import functools
import importlib.metadata
import logging

from alignzoo.plugin.loading import OWN, find_unmet_requirement

log = logging.getLogger(__name__)


@functools.cache
def warn_untested_trl() -> None:
    """Warn, once a process, of a TRL outside the range that pyproject.toml declares."""
    version = importlib.metadata.version("trl")
    wanted = find_unmet_requirement(importlib.metadata.distribution(OWN), "trl", version)
    if wanted:
        log.warning(
            "TRL %s is installed, and alignzoo is tested with %s: losses and defaults may differ. pip install '%s'",
            *(version, wanted.removeprefix("trl"), wanted),
        )

"""Writes a study's page anew after each of its runs, in whichever process the launcher runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class StudyCallback(Callback):
    """Writes the page of the study that a sweep's job belongs to; Hydra turns what it raises into a warning."""

    def on_job_end(self, config: Any, job_return: Any, **kwargs: Any) -> None:
        """Write the page."""
        from alignzoo.study.page import write_study

        write_study(Path(config.hydra.sweep.dir).parent)

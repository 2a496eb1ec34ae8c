"""Starts Weights & Biases and the other trackers with a run and finishes them with it, so that no two runs mix."""

from __future__ import annotations

import importlib.util
import netrc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.secrets import hide_in_word, hide_secrets
from alignzoo.system import ranks
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig


class Tracker:
    """The run's tracker, for what the trainer itself does not report."""

    def __init__(self, run: Any = None) -> None:
        self.run = run

    def summary(self, numbers: Mapping[str, Any]) -> None:
        """Set the final numbers where the tracker has a place for them."""
        if self.run is not None:
            self.run.summary.update(dict(numbers))

    def table(self, name: str, content: Mapping[str, Any]) -> None:
        """Log a table, ``columns`` and ``data``, where the tracker has tables."""
        if self.run is not None:
            import wandb

            self.run.log({name: wandb.Table(**content)})


@contextmanager
def start_tracker(cfg: DictConfig, folder: Path, group: str | None) -> Iterator[Tracker]:
    """Start ``cfg.tracker`` for one run and finish it at the end, also after an error.

    Args:
        cfg: the whole configuration, which the tracker records.
        folder: the run folder; the tracker's files go there.
        group: what the jobs of a sweep have in common, or None.

    Raises:
        UserError: the tracker is not installed.
    """
    needed = cfg.tracker.get("requires")
    if needed and importlib.util.find_spec(needed) is None:
        raise UserError(f"tracker={cfg.tracker.name} is not installed: pip install 'alignzoo[{cfg.tracker.name}]'.")
    if cfg.tracker.name == "tensorboard":
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    if cfg.tracker.name != "wandb" or ranks.rank() != 0:
        yield Tracker()
        return
    run = _start_wandb(cfg, folder, group)
    try:
        yield Tracker(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _start_wandb(cfg: DictConfig, folder: Path, group: str | None) -> Any:
    import wandb

    mode: Any = os.environ.get("WANDB_MODE") or cfg.tracker.mode
    if mode == "auto":
        mode = "online" if is_logged_in() else "offline"
        if mode == "offline":
            print("Not logged in to Weights & Biases: writing offline (`wandb login`, then `wandb sync`).", flush=True)
    os.environ["WANDB_LOG_MODEL"] = "false"
    with _mask_arguments():
        return wandb.init(
            project=cfg.tracker.project,
            entity=cfg.tracker.entity,
            group=group,
            name=folder.name,
            tags=list(cfg.tracker.tags),
            config=hide_secrets(cfg),
            dir=str(folder),
            mode=mode,
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
        )


@contextmanager
def _mask_arguments() -> Iterator[None]:
    """Hide the secrets that were typed: wandb records the program's arguments."""
    before = sys.argv
    sys.argv = [hide_in_word(word) for word in before]
    try:
        yield
    finally:
        sys.argv = before


def is_logged_in() -> bool:
    """Tell whether wandb would find a key without asking for one."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].rstrip("/")
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False

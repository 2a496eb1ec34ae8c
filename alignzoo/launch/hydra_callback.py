"""Makes folders before a run or sweep, and writes the leaderboard after a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode

from alignzoo.launch import ray_cluster, submitit
from alignzoo.runs.sweep_status import mask_account
from alignzoo.system.errors import UserError, print_error
from alignzoo.system.folders import run_folders
from alignzoo.system.output import outlive_output
from alignzoo.system.process_cache import process_cache

if TYPE_CHECKING:
    from alignzoo.report.leaderboard.board import Leaderboard


class SweepCallback(Callback):
    """Makes the run's or sweep's folder; ends a sweep with its leaderboard, and with exit code 1 if a job failed.

    Hydra turns exceptions of a callback into warnings, except SystemExit.
    """

    def __init__(self) -> None:
        self.lost: list[str] = []
        """The jobs of a sweep that ended without a result; its launcher adds to them."""

    def on_run_start(self, config: Any, **kwargs: Any) -> None:
        """Make the run folder before Hydra does, which would fail with a traceback."""
        _make_folder(config.hydra.run.dir)

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Make the sweep's folder, if it does not hold another sweep."""
        outlive_output()  # its jobs may run elsewhere
        _make_folder(config.hydra.sweep.dir)
        _refuse_finished(Path(config.hydra.sweep.dir), config)
        if "submitit" in config.hydra.launcher._target_:
            self.lost = submitit.wait_for_all()
        if config.hydra.launcher._target_.endswith(".RayLauncher"):
            self.lost = _prepare_ray(config)

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        """Mask what secrets the command had in Hydra's account of the sweep, which is there now."""
        if config.hydra.mode == RunMode.MULTIRUN:
            mask_account(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Print and write the leaderboard."""
        from alignzoo.report.leaderboard.files import write_leaderboard
        from alignzoo.report.leaderboard.table import print_leaderboard

        process_cache().begin_job(False)
        folder = Path(config.hydra.sweep.dir)
        try:
            board = write_leaderboard([folder], folder)
        except UserError as error:
            raise SystemExit(print_error(str(error))) from None
        print(f"\nsweep {folder}")
        print_leaderboard(board)
        print(f"page: {folder / 'leaderboard.html'}")
        _send_leaderboard(board, folder)
        if board.failed or self.lost:
            raise SystemExit(1)


def _send_leaderboard(board: Leaderboard, folder: Path) -> None:
    """Send the board to Weights & Biases, as a run of the sweep's group, if its runs were sent there."""
    from omegaconf import OmegaConf

    from alignzoo.report.leaderboard.table import make_wandb_table
    from alignzoo.runs.trackers import start_tracker

    sent = [run for run in board.runs if run.config.get("tracker.name") == "wandb"]
    if sent:
        with start_tracker(
            OmegaConf.create({"tracker": sent[0].load_config().tracker}), folder, folder.name
        ) as tracker:
            tracker.table("leaderboard", make_wandb_table(board))


def _prepare_ray(config: Any) -> list[str]:
    try:
        return ray_cluster.prepare_sweep(config)
    except UserError as error:
        raise SystemExit(print_error(str(error))) from None


def _refuse_finished(folder: Path, config: Any) -> None:
    if config.get("resume") != "auto" and any(folder.glob("[0-9]*/result.json")):
        raise SystemExit(
            print_error(
                f"hydra.sweep.dir={folder} holds finished runs of a sweep: add resume=auto to run what is missing of "
                "it, or choose another folder."
            )
        )


def _make_folder(folder: str) -> None:
    try:
        run_folders().make(Path(folder))
    except UserError as error:
        raise SystemExit(print_error(str(error))) from None

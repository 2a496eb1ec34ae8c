"""Runs one composed config, in this process or in several as its strategy says."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignzoo.config.check import check
from alignzoo.config.checked import Checked
from alignzoo.config.errors import explain
from alignzoo.config.secrets import hide_environment
from alignzoo.config.trl_fields import warn_untested_trl
from alignzoo.launch import ray_train, slurm, submitit, torchrun
from alignzoo.launch.attempt import Attempt, train_here
from alignzoo.launch.gpu_pool import reserve_gpus
from alignzoo.launch.interrupt import describe_remains
from alignzoo.launch.strategy import check_strategy
from alignzoo.runs import resume
from alignzoo.runs.folder import Run
from alignzoo.runs.record import Record
from alignzoo.runs.sweep_status import BASIC
from alignzoo.system import ranks
from alignzoo.system.errors import UserError, print_error
from alignzoo.system.folders import run_folders
from alignzoo.system.hub import hub
from alignzoo.system.libraries import silence_libraries
from alignzoo.system.limits import explain_limit
from alignzoo.system.lock import InUse
from alignzoo.system.output import outlive_output
from alignzoo.system.process_cache import process_cache
from alignzoo.system.signals import Preempted, catch_signals, end_with_parent
from alignzoo.train.losses.apart import require_agreement
from alignzoo.train.processes import join_launched_processes
from alignzoo.train.vllm import check_vllm


def launch(cfg: DictConfig, stage: bool = False) -> float | None:
    """Run one job and return its ``evaluate.objective``; a sweep job that fails returns None.

    ``stage``: the job is a stage of a pipeline; the command to resume is then printed by the pipeline.

    Raises:
        Preempted: the run was preempted; a sweep ends with it.
        SystemExit: the run, which is not a sweep job, was refused or has failed; the reason was printed.
    """
    hydra = HydraConfig.get()
    sweeping = hydra.mode == RunMode.MULTIRUN
    words: Any = OmegaConf.to_container(hydra.overrides.task)  # as typed: an interpolation may lead nowhere
    sweep = Path(hydra.sweep.dir).name if sweeping else None
    selects = sweeping and hydra.sweeper._target_ != BASIC
    job = _Job(hydra, Attempt(words, sweep, selects), sweeping, stage)
    process_cache().begin_job(sweeping)
    hub().ask_again()
    logging.raiseExceptions = False  # a full disk is reported once, not for each line of the log
    outlive_output()
    _write_log_in_utf8()
    if multiprocessing.current_process().name.startswith("LokyProcess"):  # joblib's outlive a sweep that is killed
        end_with_parent(signal.SIGKILL)
    try:
        with catch_signals():
            return job.run(cfg)
    except Preempted as preempted:
        submitit.requeue(preempted.reason)
        if not stage:
            _print_resume_command(hydra, preempted)
        raise
    except KeyboardInterrupt:
        if not stage:
            job.interrupt(several=sweeping or "pipeline" in cfg)
        raise
    except (UserError, OmegaConfBaseException) as error:
        job.refuse(error)
    except Exception as error:
        limit = explain_limit(error, job.folder)
        job.refuse(UserError(limit)) if limit else job.crash(error)
    return None


class _Job:
    """One start of a run, which ends with a result, preempted, refused or crashed."""

    def __init__(self, hydra: DictConfig, attempt: Attempt, sweeping: bool, stage: bool) -> None:
        self.hydra, self.attempt, self.sweeping, self.stage = hydra, attempt, sweeping, stage
        self.folder = Path(hydra.runtime.output_dir)
        self.record: Record | None = None
        self.cfg: DictConfig | None = None

    def run(self, cfg: DictConfig) -> float | None:
        """Run it, and return its objective."""
        self.cfg = cfg
        if ranks.world_size() > 1:
            join_launched_processes(cfg)
        self.folder = _share_folder(self.folder)
        if slurm.is_restarted() and "resume" in cfg:
            cfg.resume = "auto"
        if resume.is_finished(cfg, self.folder):
            return Run(self.folder).objective
        self.record = record = Record(self.folder)
        if "pipeline" in cfg:
            from alignzoo.launch.pipeline import run_pipeline

            return run_pipeline(cfg, record.folder, self.attempt.words, launch)
        warn_untested_trl()
        checked = check(cfg)  # before it waits for a GPU
        if cfg.prune.rule != "none" and (self.stage or not self.sweeping):
            raise UserError(f"prune.rule={cfg.prune.rule} compares the jobs of a sweep: add -m, or leave it out.")
        if checked.cfg.train.verify and "generate" not in cfg:
            require_agreement(checked)
        with reserve_gpus(checked.cfg, self.hydra.launcher) as apart:
            check_strategy(checked)
            check_vllm(checked.cfg)
            self._check_folder(checked)
            silence_libraries(checked.cfg.telemetry)
            self._train(checked, record, apart)
        return Run(record.folder).objective if ranks.rank() == 0 else None

    def _check_folder(self, checked: Checked) -> None:
        """Refuse a run on several machines whose folder was not named: each would make one."""
        named = any(word.startswith("hydra.run.dir=") for word in self.hydra.overrides.hydra)
        nodes = checked.cfg.strategy.nodes
        if nodes > 1 and not self.sweeping and not named and not ranks.is_launched():
            raise UserError(f"strategy.nodes={nodes}: add hydra.run.dir=FOLDER, one that all machines see.")

    def _train(self, checked: Checked, record: Record, apart: bool) -> None:
        """Train here, or in as many processes as the strategy places; ``apart``: in a process of its own."""
        on_ray = checked.cfg.launcher.name == "ray"
        if ranks.is_launched() or (checked.placement.processes == 1 and not apart and not on_ray):
            train_here(checked, record, self.attempt)
        else:
            self.attempt.has_written = True
            (ray_train if on_ray else torchrun).start(checked, record.folder, self.attempt)

    @ranks.on_main
    def interrupt(self, several: bool) -> None:
        """Print what is kept of a run that Ctrl-C ends, and how to go on; a launcher's process says nothing.

        ``several``: it is a sweep's job, or a pipeline.
        """
        if self.sweeping and not self.hydra.launcher._target_.endswith(".BasicLauncher"):
            return
        again = _find_resume_command(self.hydra)
        finished = f"what is finished is kept. To resume: {again}"
        print_error(f"stopped by Ctrl-C: {finished if several else describe_remains(self.folder, again)}")
        if self.record and not self.record.trained and self.attempt.has_written:
            _close_log()
            self.record.discard()

    def refuse(self, error: Exception) -> None:
        """Print what the user has to correct; end the program, unless a sweep continues with its next job."""
        text = str(error) if isinstance(error, UserError) else str(explain(error))
        print_error(text)
        self._write_refusal(text, error)
        if not self.sweeping or isinstance(error, InUse):  # the other process runs the same sweep
            raise SystemExit(1) from None

    def _write_refusal(self, text: str, error: Exception) -> None:
        record = self.record
        others = isinstance(error, resume.Refused | InUse)
        if others or (record and record.trained and not self.attempt.has_written):
            record = None  # nothing in the folder is of this start
        if record and (self.sweeping or record.trained):
            record.write_error(self._hide(text), self.attempt.words)
        elif record:
            _close_log()
            record.discard()
        elif self.sweeping and not isinstance(error, InUse):  # else it is another run's folder
            with contextlib.suppress(OSError):  # it could not be made, or its disk is full: the reason was printed
                (self.folder / "error.txt").write_text(f"{text}\n", encoding="utf-8")

    def _hide(self, text: str) -> str:
        """Return an error's text without what the configuration takes from the environment."""
        return hide_environment(self.cfg, text) if self.cfg is not None else text

    def crash(self, error: Exception) -> None:
        """Write why the run failed; end the program with a traceback, unless a sweep continues with its next job."""
        is_explained = isinstance(error, torchrun.WorkerFailed)
        if is_explained:
            print_error(str(error))
        if self.record:
            text = str(error) if is_explained else f"{type(error).__name__}: {error}"
            self.record.write_error(self._hide(text), self.attempt.words)
        if not self.sweeping:
            raise SystemExit(1) if is_explained else error from None
        if not is_explained:
            traceback.print_exception(error)


def _share_folder(folder: Path) -> Path:
    """Return the run folder; of several processes started by the user, that of the main process."""
    if ranks.world_size() == 1:
        return run_folders().make(folder)
    shared = ranks.broadcast(folder)
    if shared != folder:  # composed a moment later, Hydra has made another
        _close_log()
        (folder / "alignzoo.log").unlink(missing_ok=True)
        run_folders().remove_empty()
    return shared


@ranks.on_main
def _print_resume_command(hydra: DictConfig, preempted: Preempted) -> None:
    """Print why the run was stopped, and how to resume it."""
    again = _find_resume_command(hydra)
    print(f"alignzoo: stopped by {preempted.reason}. To resume:\n    {again}", file=sys.stderr, flush=True)


def _find_resume_command(hydra: DictConfig) -> str:
    """Return the typed command with folder and ``resume=auto``; in a launcher's process, ``sweep resume``."""
    kind = "sweep" if hydra.mode == RunMode.MULTIRUN else "run"
    folder = Path(hydra.sweep.dir if kind == "sweep" else hydra.runtime.output_dir)
    typed = kind == "run" or hydra.launcher._target_.endswith(".BasicLauncher")
    if typed:
        return resume.format_command(sys.argv[1:], folder, kind)
    return shlex.join(["python", "-m", "alignzoo", "sweep", "resume", str(folder)])


def _write_log_in_utf8() -> None:
    """Write Hydra's log file in UTF-8, whatever the locale; Hydra opens it without saying so."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and isinstance(handler.stream, io.TextIOWrapper):
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _close_log() -> None:
    """Close Hydra's log file, so that the run folder can be removed."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        with contextlib.suppress(OSError):  # a full disk: what it still held is lost
            handler.close()
        root.removeHandler(handler)

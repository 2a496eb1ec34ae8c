"""Runs one composed config in this process, and leaves nothing of it behind for the next."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shlex
import signal
import sys
import traceback
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignzoo.config import check, placement
from alignzoo.config.errors import explain
from alignzoo.config.trl_version import warn_untested_trl
from alignzoo.launch import gpu_pool, ray_train, slurm, submitit, torchrun
from alignzoo.runs import resume
from alignzoo.runs.record import Record
from alignzoo.system import memory, ranks
from alignzoo.system.device import choose_device
from alignzoo.system.disk import filling
from alignzoo.system.environment import restore_environment
from alignzoo.system.errors import UserError, complain
from alignzoo.system.folders import run_folders
from alignzoo.system.lock import InUse, hold_lock
from alignzoo.system.process_cache import process_cache
from alignzoo.system.signals import Preempted, end_with_parent, listening
from alignzoo.train import vllm

if TYPE_CHECKING:
    from alignzoo.plugin.method import Method

log = logging.getLogger(__name__)


def launch(cfg: DictConfig, stage: bool = False) -> float | None:
    """Run one job and return its ``evaluate.objective``; a sweep's member that fails is None, and the others go on.

    ``stage``: it is a pipeline's, which tells how to go on itself.

    Raises:
        Preempted: the run was told to stop; a sweep ends with it.
    """
    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)  # as typed: an interpolation may lead nowhere
    sweeping = hydra.mode == RunMode.MULTIRUN
    folder = Path(hydra.runtime.output_dir)
    process_cache().begin_job(sweeping)
    logging.raiseExceptions = False  # of a full disk the run tells once, and not each line of its log
    if multiprocessing.current_process().name.startswith("LokyProcess"):  # joblib's outlive a sweep that is killed
        end_with_parent(signal.SIGKILL)
    record = None
    try:
        with listening():
            folder = _agreed(cfg, folder)
            if slurm.restarted() and "resume" in cfg:
                cfg.resume = "auto"
            done = resume.finished(cfg, folder)
            if done is not None:
                return _objective(cfg, done)
            record = Record(folder)
            if "pipeline" in cfg:
                from alignzoo.launch.pipeline import run_pipeline

                return run_pipeline(cfg, record.folder, overrides, launch)
            warn_untested_trl()
            with gpu_pool.taken(cfg, hydra.launcher) as apart:
                method = check.check(cfg)
                placement.check(cfg)
                vllm.check(cfg)
                _check_folder(cfg, hydra)
                quiet(cfg)
                return _objective(cfg, _train(Job(cfg, method, record, overrides, _sweep_name(hydra)), apart))
    except Preempted as preempted:
        submitit.queue_again(preempted.reason)
        if not stage:
            _say_how_to_go_on(hydra, preempted)
        raise
    except (UserError, OmegaConfBaseException) as error:
        text = str(error) if isinstance(error, UserError) else str(explain(error))
        complain(text)
        if isinstance(error, resume.Refused | InUse) or (record and record.trained and not record.began):
            record = None  # nothing in the folder is of this start
        if record and (sweeping or record.trained):
            record.fail(text, overrides)
        elif record:
            _close_log()
            record.discard()
        elif sweeping and not isinstance(error, InUse):  # another run's folder: only the sweep's table is told
            (folder / "error.txt").write_text(f"{text}\n", encoding="utf-8")
        if not sweeping or isinstance(error, InUse):  # whoever uses the folder runs the same sweep
            raise SystemExit(1) from None
    except Exception as error:
        told = isinstance(error, torchrun.WorkerFailed)
        if told:
            complain(str(error))
        if record:
            record.fail(str(error) if told else f"{type(error).__name__}: {error}", overrides)
        if not sweeping:
            raise SystemExit(1) if told else error from None
        if not told:
            traceback.print_exc()
    return None


@dataclass(frozen=True)
class Job:
    """One run, checked and ready to start."""

    cfg: DictConfig
    method: type[Method]
    record: Record
    overrides: list[str]
    """As typed."""

    group: str | None
    """The sweep that it belongs to."""


def _check_folder(cfg: DictConfig, hydra: DictConfig) -> None:
    """Refuse a run on several machines whose folder was not named: each would have its own, with its own time."""
    named = any(word.startswith("hydra.run.dir=") for word in hydra.overrides.hydra)
    if cfg.strategy.nodes > 1 and hydra.mode == RunMode.RUN and not named and not ranks.joined():
        raise UserError(f"strategy.nodes={cfg.strategy.nodes}: add hydra.run.dir=FOLDER, one that all machines see.")


def _agreed(cfg: DictConfig, folder: Path) -> Path:
    """Return the run folder; where others started several processes, the main one's."""
    if ranks.world_size() == 1:
        return run_folders().make(folder)
    placement.begin(cfg, choose_device(cfg.strategy.device))
    shared = ranks.from_main(folder)
    if shared != folder:  # composed a moment later, Hydra has made another
        _close_log()
        (folder / "alignzoo.log").unlink(missing_ok=True)
        run_folders().remove_empty()
    return shared


def _train(job: Job, apart: bool) -> dict[str, Any]:
    """Train in this process, or in as many as the strategy places; ``apart``: not in this one, even if it is one."""
    on_ray = job.cfg.launcher.name == "ray"
    if ranks.joined() or (placement.processes(job.cfg) == 1 and not apart and not on_ray):
        return train_here(job)
    job.record.began = True
    (ray_train if on_ray else torchrun).start(job.cfg, job.record.folder, job.overrides, job.group)
    return job.record.result()


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, and leave nothing of it behind; the result is empty on all ranks but the first."""
    from alignzoo.runs.trackers import tracking
    from alignzoo.train.run import train

    cfg, record = job.cfg, job.record
    lock = hold_lock(record.folder) if ranks.rank() == 0 else nullcontext()
    with restore_environment(), filling(record.folder, "this run"), lock:
        record.came = resume.find(cfg, record.folder) if ranks.rank() == 0 else None
        with tracking(cfg, record.folder, job.group) as tracker:
            try:
                record.cut_back()
                record.describe(cfg, job.overrides)
                return train(cfg, job.method, record, tracker)
            finally:
                _free_memory()


def _objective(cfg: DictConfig, result: dict[str, Any]) -> float | None:
    value: float | None = result["after"].get(result["objective"]) if result else None
    return value


@ranks.on_main
def _say_how_to_go_on(hydra: DictConfig, preempted: Preempted) -> None:
    """Print the command that was typed, with folder and ``resume=auto``; in a launcher's process, ``sweep resume``."""
    kind = "sweep" if hydra.mode == RunMode.MULTIRUN else "run"
    folder = Path(hydra.sweep.dir if kind == "sweep" else hydra.runtime.output_dir)
    typed = kind == "run" or hydra.launcher._target_.endswith(".BasicLauncher")
    words = ["sweep", "resume", str(folder)]
    again = resume.command(sys.argv[1:], folder, kind) if typed else shlex.join(["python", "-m", "alignzoo", *words])
    print(f"alignzoo: stopped by {preempted.reason}. To go on:\n    {again}", file=sys.stderr, flush=True)


def _sweep_name(hydra: DictConfig) -> str | None:
    return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None


def quiet(cfg: DictConfig) -> None:
    """Keep TRL from reporting the run to its makers, and the libraries' notices to each other off the terminal."""
    if not cfg.telemetry:
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    for name in ("matplotlib", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")

    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()


def _free_memory() -> None:
    """Free what a run held, for the next sweep job."""
    import torch

    memory.give_back()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _close_log() -> None:
    """Let go of Hydra's log file, so that the run folder can be removed."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        handler.close()
        root.removeHandler(handler)

"""Runs one composed config in this process, and leaves nothing of it behind for the next."""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignzoo import folders, resume, settings
from alignzoo.errors import UserError, complain
from alignzoo.explain import explained
from alignzoo.lock import InUse, locked
from alignzoo.notice import Preempted, listening
from alignzoo.record import Record

log = logging.getLogger(__name__)


def launch(cfg: DictConfig) -> float | None:
    """Run one job and return its ``evaluate.objective``; a sweep's member that fails is None, and the others go on.

    Raises:
        Preempted: the run was told to stop; a sweep ends with it.
    """
    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)  # as typed: an interpolation may lead nowhere
    sweeping = hydra.mode == RunMode.MULTIRUN
    folder = Path(hydra.runtime.output_dir)
    record = None
    try:
        with listening(), locked(folders.make(folder)):
            done = resume.finished(cfg, folder)
            if done is not None:
                return _objective(cfg, done)
            record = Record(folder)
            method = settings.check(cfg)
            record.came = resume.find(cfg, folder)
            quiet(cfg)
            return _train(cfg, method, record, overrides, _sweep_name(hydra))
    except Preempted as preempted:
        _say_how_to_go_on(hydra, preempted)
        raise
    except (UserError, OmegaConfBaseException) as error:
        text = str(error) if isinstance(error, UserError) else str(explained(error))
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
        if record:
            record.fail(f"{type(error).__name__}: {error}", overrides)
        if not sweeping:
            raise
        traceback.print_exc()
    return None


def _train(cfg: DictConfig, method: type, record: Record, overrides: list[str], group: str | None) -> float | None:
    from alignzoo.trackers import tracking
    from alignzoo.train import train

    variables = dict(os.environ)
    with tracking(cfg, record.folder, group) as tracker:
        try:
            record.cut_back()
            record.describe(cfg, overrides)
            result = train(cfg, method, record, tracker)
        finally:
            _forget(variables)
    return _objective(cfg, result)


def _objective(cfg: DictConfig, result: dict[str, Any]) -> float | None:
    value: float | None = result["after"].get(cfg.evaluate.objective)
    return value


def _say_how_to_go_on(hydra: DictConfig, preempted: Preempted) -> None:
    """Print the command that was typed, with the folder and ``resume=auto``."""
    kind = "sweep" if hydra.mode == RunMode.MULTIRUN else "run"
    folder = Path(hydra.sweep.dir if kind == "sweep" else hydra.runtime.output_dir)
    again = resume.command(sys.argv[1:], folder, kind)
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


def _forget(variables: dict[str, str]) -> None:
    """Free what a run held, and take back the variables that libraries set, for the next member of a sweep."""
    import torch

    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _close_log() -> None:
    """Let go of Hydra's log file, so that the run folder can be removed."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        handler.close()
        root.removeHandler(handler)

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

from alignzoo import settings
from alignzoo.errors import UserError, complain
from alignzoo.explain import explained
from alignzoo.record import Record
from alignzoo.supported import say_untested_trl

log = logging.getLogger(__name__)


def launch(cfg: DictConfig) -> float | None:
    """Run one job and return its ``evaluate.objective``; a sweep's member that fails is None, and the others go on."""
    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)  # as typed: an interpolation may lead nowhere
    sweeping = hydra.mode == RunMode.MULTIRUN
    record = None
    try:
        say_untested_trl()
        record = Record(Path(hydra.runtime.output_dir))
        method = settings.check(cfg)
        quiet(cfg)
        return _train(cfg, method, record, overrides, _sweep_name(hydra))
    except (UserError, OmegaConfBaseException) as error:
        text = str(error) if isinstance(error, UserError) else str(explained(error))
        complain(text)
        if record and (sweeping or record.trained):
            record.fail(text, overrides)
        elif record:
            _close_log()
            record.discard()
        elif sweeping:  # another run's folder: only the sweep's table is told
            (Path(hydra.runtime.output_dir) / "error.txt").write_text(f"{text}\n", encoding="utf-8")
        if not sweeping:
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
            record.describe(cfg, overrides)
            result = train(cfg, method, record, tracker)
        finally:
            _forget(variables)
    value: float | None = result["after"].get(cfg.evaluate.objective)
    return value


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

"""Runs one composed config in this process, and leaves nothing of it behind for the next."""

from __future__ import annotations

import gc
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alignzoo import elastic, folders, ranks, settings, strategies
from alignzoo.device import choose_device
from alignzoo.errors import UserError, complain
from alignzoo.explain import explained
from alignzoo.record import Record

if TYPE_CHECKING:
    from alignzoo.method import Method

log = logging.getLogger(__name__)


def launch(cfg: DictConfig) -> float | None:
    """Run one job and return its ``evaluate.objective``; a sweep's member that fails is None, and the others go on."""
    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)  # as typed: an interpolation may lead nowhere
    sweeping = hydra.mode == RunMode.MULTIRUN
    record = None
    try:
        record = _record(cfg, Path(hydra.runtime.output_dir))
        method = settings.check(cfg)
        strategies.check(cfg)
        quiet(cfg)
        record.describe(cfg, overrides)
        return _train(cfg, method, record, _sweep_name(hydra))
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
    except elastic.WorkerFailed as error:
        complain(str(error))
        if record:
            record.fail(str(error), overrides)
        if not sweeping:
            raise SystemExit(1) from None
    except Exception as error:
        if record:
            record.fail(f"{type(error).__name__}: {error}", overrides)
        if not sweeping:
            raise
        traceback.print_exc()
    return None


def _record(cfg: DictConfig, folder: Path) -> Record:
    """Return the record of a run in ``folder``; where others started several processes, in the main one's."""
    if ranks.world_size() == 1:
        return Record(folder)
    strategies.begin(cfg, choose_device(cfg.strategy.device))
    shared = ranks.from_main(folder)
    if shared != folder:  # composed a moment later, Hydra has made another
        _close_log()
        (folder / "alignzoo.log").unlink(missing_ok=True)
        folders.take_back()
    return Record(folder) if ranks.rank() == 0 else Record.of(shared)


def _train(cfg: DictConfig, method: type[Method], record: Record, group: str | None) -> float | None:
    """Train in this process, or in as many as the strategy places."""
    if ranks.joined() or strategies.processes(cfg) == 1:
        result = train_here(cfg, method, record, group)
    else:
        elastic.start(cfg, record.folder, group)
        result = record.result()
    value: float | None = result["after"].get(cfg.evaluate.objective) if result else None
    return value


def train_here(cfg: DictConfig, method: type[Method], record: Record, group: str | None) -> dict[str, Any]:
    """Train in this process, and leave nothing of it behind; the result is empty on all ranks but the first."""
    from alignzoo.trackers import tracking
    from alignzoo.train import train

    variables = dict(os.environ)
    with tracking(cfg, record.folder, group) as tracker:
        try:
            return train(cfg, method, record, tracker)
        finally:
            _forget(variables)


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

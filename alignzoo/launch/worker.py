"""Trains as one of a run's processes, started as ``python -m alignzoo.launch.worker JOB``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignzoo.launch import restarts, torchrun
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.system.output import outlive_output
from alignzoo.system.signals import Preempted, end_with_parent

log = logging.getLogger(__name__)


def main(job: Path) -> None:
    """Train the run that the file ``job`` describes; see :func:`alignzoo.launch.torchrun.start`."""
    _die_with_parent(job)  # before the imports, which take seconds
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_run_job)(job)  # which writes exceptions down for the parent
    except Preempted as preempted:
        if preempted.agreed or ranks.rank() == 0:
            torchrun.reason_file(job).write_text(preempted.reason, encoding="utf-8")
        if preempted.agreed:
            restarts.conclude(job, preempted, preempted.reason)
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except UserError as error:
        restarts.conclude(job, error, str(error))
        sys.exit(1)
    except Exception:
        log.exception("rank %d", ranks.rank())
        sys.exit(1)


def _run_job(job: Path) -> None:
    from omegaconf import OmegaConf

    restarts.check_concluded(job)
    settings: Any = OmegaConf.load(job)
    if restarts.mark_started(job):
        settings.config.resume = "auto"  # from what was saved before a process was lost
        if ranks.rank() == 0:
            print("alignzoo: a process of this run was lost: all are started again.", file=sys.stderr, flush=True)
    run(settings)


def _die_with_parent(job: Path) -> None:
    """End with the launching process, and at once if it has ended already."""
    from omegaconf import OmegaConf

    end_with_parent(signal.SIGKILL)
    settings: Any = OmegaConf.load(job)
    if os.getppid() != settings.parent:
        sys.exit(1)


def run(job: Mapping[str, Any]) -> None:
    """Train as one of several processes.

    ``job`` holds the run's ``folder``, its ``config``, the ``overrides`` as typed, the sweep, its ``group``, and
    whether that ``selects`` by the run's number.
    """
    from omegaconf import OmegaConf

    from alignzoo.config.check import check
    from alignzoo.launch.attempt import Attempt, train_here
    from alignzoo.runs.record import Record
    from alignzoo.system.libraries import silence_libraries

    outlive_output()
    settings: Any = OmegaConf.create(dict(job))
    if ranks.world_size() == 1:  # accelerate would treat it as a distributed run
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
    _set_up_log(Path(settings.folder))
    cfg = settings.config
    OmegaConf.set_struct(cfg, True)
    checked = check(cfg)
    silence_libraries(cfg.telemetry)
    words: Any = OmegaConf.to_container(settings.overrides)
    train_here(checked, Record.of(Path(settings.folder)), Attempt(words, settings.group, settings.selects))


def _set_up_log(folder: Path) -> None:
    """Write each rank's log to the run folder; the main process prints, the others' output goes to their log."""
    file = folder / "logs" / f"rank{ranks.rank()}.log"
    file.parent.mkdir(exist_ok=True)
    stream = file.open("a", encoding="utf-8", buffering=1)
    handlers: list[Any] = [logging.StreamHandler(stream)]
    if ranks.rank() == 0:
        handlers.append(logging.StreamHandler())
        handlers[1].addFilter(lambda entry: entry.exc_info is None)  # the parent reports a failure in two lines
        handlers[1].setLevel(logging.WARNING)
    else:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    logging.raiseExceptions = False  # as in alignzoo.launch.launch
    shape = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
    logging.basicConfig(level=logging.INFO, handlers=handlers, format=shape, force=True)  # Ray has its own


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""``python -m alignzoo.worker JOB``: one of the processes that train a run together, started by the strategy."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from alignzoo import attempts, elastic, ranks
from alignzoo.errors import UserError
from alignzoo.notice import Preempted

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  #: prctl(2): a signal to get when the parent dies


def main(job: Path) -> None:
    """Train the run that the file ``job`` describes; see :func:`alignzoo.elastic.start`."""
    _die_with_parent(job)  # first of all: what is imported takes seconds
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_run)(job)  # what it raises is written down for the parent
    except Preempted as preempted:
        if preempted.agreed or ranks.rank() == 0:
            elastic.reason(job).write_text(preempted.reason, encoding="utf-8")
        if preempted.agreed:
            attempts.conclude(job, preempted, preempted.reason)
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except UserError as error:
        attempts.conclude(job, error, str(error))
        sys.exit(1)
    except Exception:
        log.exception("rank %d", ranks.rank())
        sys.exit(1)


def _run(job: Path) -> None:
    from omegaconf import OmegaConf

    from alignzoo import launch, settings
    from alignzoo.record import Record

    attempts.check_concluded(job)
    told: Any = OmegaConf.load(job)
    _log(Path(told.folder))
    cfg = told.config
    if attempts.started_again(job):
        cfg.resume = "auto"  # from what was saved before a process was lost
        if ranks.rank() == 0:
            print("alignzoo: a process of this run was lost: all are started again.", file=sys.stderr, flush=True)
    OmegaConf.set_struct(cfg, True)
    method = settings.check(cfg)
    launch.quiet(cfg)
    overrides: Any = OmegaConf.to_container(told.overrides)
    launch.train_here(launch.Job(cfg, method, Record.of(Path(told.folder)), overrides, told.group))


def _die_with_parent(job: Path) -> None:
    """Leave no orphan behind when the launching process is killed, nor where it already was."""
    from omegaconf import OmegaConf

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        told: Any = OmegaConf.load(job)
        if os.getppid() != told.parent:
            sys.exit(1)


def _log(folder: Path) -> None:
    """Keep each rank's log in the run folder; the main one has the terminal, the others' output goes to their log."""
    file = folder / "logs" / f"rank{ranks.rank()}.log"
    file.parent.mkdir(exist_ok=True)
    stream = file.open("a", encoding="utf-8", buffering=1)
    handlers: list[Any] = [logging.StreamHandler(stream)]
    if ranks.rank() == 0:
        handlers.append(logging.StreamHandler())
        handlers[1].addFilter(lambda entry: entry.exc_info is None)  # the parent tells of a failure in two lines
        handlers[1].setLevel(logging.WARNING)
    else:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    logging.raiseExceptions = False  # as in alignzoo.launch
    shape = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
    logging.basicConfig(level=logging.INFO, handlers=handlers, format=shape)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

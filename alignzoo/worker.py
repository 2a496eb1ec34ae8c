"""``python -m alignzoo.worker JOB``: one of the processes that train a run together, started by the strategy."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignzoo import elastic, ranks
from alignzoo.errors import UserError
from alignzoo.notice import Preempted, end_with_parent

log = logging.getLogger(__name__)


def main(job: Path) -> None:
    """Train the run that the file ``job`` describes; see :func:`alignzoo.elastic.start`."""
    from torch.distributed.elastic.multiprocessing.errors import record

    end_with_parent(signal.SIGKILL)
    try:
        record(_read)(job)  # what it raises is written down for the parent
    except Preempted as preempted:
        if ranks.rank() == 0:
            elastic.reason(job).write_text(preempted.reason, encoding="utf-8")
        raise
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except UserError:
        sys.exit(1)
    except Exception:
        log.exception("rank %d", ranks.rank())
        sys.exit(1)


def _read(job: Path) -> None:
    from omegaconf import OmegaConf

    told: Any = OmegaConf.load(job)
    run(told)


def run(job: Mapping[str, Any]) -> None:
    """Train as one of several processes.

    ``job`` holds the run's ``folder``, its ``config``, the ``overrides`` as typed, and the sweep, its ``group``.
    """
    from omegaconf import OmegaConf

    from alignzoo import launch, settings
    from alignzoo.record import Record

    told: Any = OmegaConf.create(dict(job))
    if ranks.world_size() == 1:  # accelerate would take it for a distributed run
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
    _log(Path(told.folder))
    cfg = told.config
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        cfg.resume = "auto"  # from what it saved before it was lost
    OmegaConf.set_struct(cfg, True)
    method = settings.check(cfg)
    launch.quiet(cfg)
    overrides: Any = OmegaConf.to_container(told.overrides)
    launch.train_here(launch.Job(cfg, method, Record.of(Path(told.folder)), overrides, told.group))


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
    shape = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
    logging.basicConfig(level=logging.INFO, handlers=handlers, format=shape, force=True)  # Ray has its own


if __name__ == "__main__":
    main(Path(sys.argv[1]))

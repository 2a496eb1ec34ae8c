"""``python -m alignzoo.worker RUN_FOLDER``: one of the processes that train a run together, started by the strategy."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from alignzoo import ranks
from alignzoo.errors import UserError

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1  #: prctl(2): a signal to get when the parent dies


def main(folder: str, group: str | None = None) -> None:
    """Train the run whose config stands in ``folder``; ``group`` is the sweep that it belongs to."""
    from torch.distributed.elastic.multiprocessing.errors import record

    _die_with_parent()
    _log(Path(folder))
    os.environ.pop("HYDRA_MAIN_MODULE", None)
    try:
        record(_run)(Path(folder), group or None)  # what it raises is written down for the parent
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except UserError:
        sys.exit(1)
    except Exception:
        log.exception("rank %d", ranks.rank())
        sys.exit(1)


def _run(folder: Path, group: str | None) -> None:
    from alignzoo import launch, settings
    from alignzoo.evaluate.targets import run_config
    from alignzoo.record import Record

    cfg = run_config(folder, [])
    method = settings.check(cfg)
    launch.quiet(cfg)
    launch.train_here(cfg, method, Record.of(folder), group)


def _die_with_parent() -> None:
    """Leave no orphan behind when the launching process is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


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
    logging.basicConfig(
        level=logging.INFO, handlers=handlers, format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

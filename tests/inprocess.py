"""Runs the command line in the test's own process: importing TRL takes seconds, a run on `tiny` takes one."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from alignzoo.cli import main
from alignzoo.system.environment import restore_environment

#: The seed of what trains and is asked how far it got: `nox -s machines` takes several.
SEED = f"seed={os.environ.get('ALIGNZOO_TEST_SEED', '0')}"

#: Signals that a run may handle.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


@dataclass(frozen=True)
class Outcome:
    """What one command did: its run folder, exit code, output, and the environment variables that it left changed."""

    folder: Path
    code: int
    out: str
    err: str
    changed: set[str]

    def result(self) -> dict[str, Any]:
        """Return result.json."""
        return dict(json.loads((self.folder / "result.json").read_text()))

    def metrics(self) -> list[dict[str, Any]]:
        """Return metrics.jsonl."""
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]


def run(folder: Path, *words: str) -> Outcome:
    """Run ``alignzoo WORDS`` with ``folder`` as run folder, or as sweep folder where the words hold ``-m``."""
    kind = "sweep" if "-m" in words else "run"
    return call(*words, f"hydra.{kind}.dir={folder}", folder=folder)


def call(*words: str, folder: Path = Path()) -> Outcome:
    """Run ``alignzoo WORDS`` in the current folder, and leave the process as it was."""
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    with restored(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _code(*words)
        changed = {name for name in os.environ.keys() | before.keys() if os.environ.get(name) != before.get(name)}
    if "trl" in sys.modules:
        leave_imports_out(len(sys.modules) // 100)
    return Outcome(folder, code, out.getvalue(), err.getvalue(), changed)


@cache
def leave_imports_out(hundreds: int) -> None:
    """Leave what was imported out of garbage collections: each run makes three, of half a second each with it.

    Once for each ``hundreds`` of modules: what other tests import later counts too.
    """
    gc.collect()
    gc.freeze()


def _code(*words: str) -> int:
    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Take back what the command line does to its process."""
    root, argv, folder = logging.getLogger(), sys.argv, os.getcwd()
    handlers, level, job = list(root.handlers), root.level, HydraConfig.instance().cfg
    in_main = threading.current_thread() is threading.main_thread()
    handled = {number: signal.getsignal(number) for number in SIGNALS}
    sys.argv = ["alignzoo"]
    try:
        with warnings.catch_warnings(), restore_environment():
            yield
    finally:
        sys.argv = argv
        for handler in [handler for handler in root.handlers if handler not in handlers]:
            handler.close()
        root.handlers[:], root.level = handlers, level
        for logger in root.manager.loggerDict.values():  # a job's logging may disable those that there are
            if isinstance(logger, logging.Logger):
                logger.disabled = False
        os.chdir(folder)
        GlobalHydra.instance().clear()
        HydraConfig.instance().cfg = job
        for number, handler in handled.items() if in_main else ():
            signal.signal(number, handler)

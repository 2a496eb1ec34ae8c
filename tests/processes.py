"""Real processes for runs that are killed: forked from one that has imported TRL, which takes ten seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.context
import multiprocessing.forkserver
import os
import sys
import time
from pathlib import Path

from writes import build_shim

from alignzoo.cli import COMMANDS
from alignzoo.system.environment import restore_environment

#: What a run imports.
IMPORTED = ["alignzoo.train.run", "trl.trainer.dpo_trainer", "trl.trainer.kto_trainer", "trl.trainer.grpo_trainer"]
IMPORTED += ["trl.trainer.sft_trainer", "trl.experimental.orpo.orpo_trainer", "alignzoo.report.training_curves", "peft"]

PATIENCE = 240  #: seconds for what takes two on a quiet machine


class Started:
    """A run, pipeline or sweep (``-m``) in a process of its own, or a command; what it prints goes into a file."""

    def __init__(self, folder: Path, *words: str, output: Path | None = None, **variables: str) -> None:
        context = multiprocessing.get_context("forkserver")
        _start_server(context)
        self.folder, self.output = folder, output or folder.with_suffix(".out")
        kind = "sweep" if "-m" in words else "run"
        line = [*words] if words[0] in COMMANDS else [*words, f"hydra.{kind}.dir={folder}", "resume=auto"]
        self.process = context.Process(target=_run, args=(line, {**os.environ, **variables}, self.output), daemon=True)
        self.process.start()
        assert self.process.pid
        self.pid = self.process.pid

    @property
    def said(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def ends(self) -> int:
        """Wait for its end, and return its exit code; -9 if it was killed."""
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, self.said
        return self.process.exitcode

    def kill(self, number: int) -> None:
        if self.process.is_alive():
            os.kill(self.pid, number)

    def reaches(self, updates: int) -> bool:
        """Wait until so many lines were logged; False if the run ended before."""
        deadline = time.monotonic() + PATIENCE
        while self.process.is_alive():
            if lines(self.folder) >= updates:
                return True
            assert time.monotonic() < deadline, self.said
            time.sleep(0.002)
        return False


def lines(folder: Path) -> int:
    """Return how many lines the run of ``folder`` has logged, or all runs of the pipeline or sweep."""
    return sum(_count_lines(Path(place) / "metrics.jsonl") for place, *_ in os.walk(folder))


def _count_lines(file: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # a start that resumes takes back what it logs anew
        return file.read_text().count("\n")
    return 0


def _start_server(context: multiprocessing.context.ForkServerContext) -> None:
    """Start what all are forked from, with the library that can count and disturb their writes."""
    context.set_forkserver_preload(IMPORTED)
    if (shim := build_shim()) is None:
        return
    with restore_environment():  # of no other program
        os.environ["LD_PRELOAD"] = str(shim)
        multiprocessing.forkserver.ensure_running()


def _run(words: list[str], variables: dict[str, str], output: Path) -> None:
    os.environ.clear()
    os.environ.update(variables)
    with output.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.argv = ["alignzoo"]
    import torch

    torch.set_num_threads(1)
    from alignzoo.cli import main

    main(words)

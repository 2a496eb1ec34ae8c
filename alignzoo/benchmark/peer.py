"""Runs one of the programs that are compared, which trains a step whenever it is asked to."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignzoo.system.errors import UserError

SIDES = "alignzoo.benchmark.sides"

QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TQDM_DISABLE": "1"}

#: A process that is to be forked may ask whether there is a GPU, and must not begin to use it.
FORKED = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}

#: Lines of what a program wrote that are shown when it fails.
TAIL = 12


class Peer:
    """A program of :mod:`alignzoo.benchmark.sides` that runs; it trains in a process of its own for each case."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        """Start it; what it prints goes into ``log``."""
        self.name, self.log = name, log
        self.processor = 0.0  #: seconds of all its threads in the latest step
        self.lengths: list[float] = []  #: mean tokens of a completion by step, where it sampled any
        read, write = os.pipe()
        variables = {**os.environ, **QUIET, **FORKED, "BENCHMARK_ANSWERS": str(write)}
        with log.open("w", encoding="utf-8") as written, os.fdopen(write):
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=written,
                stderr=written,
                text=True,
                env=variables,
                pass_fds=[write],
            )
        self.answers = os.fdopen(read, encoding="utf-8")

    def begin(self, settings: dict[str, Any]) -> float:
        """Load what the settings say; return the seconds of a reference pass that it made for all steps at once."""
        self._say(json.dumps(settings))
        return float(self._answer()["reference"])

    def step(self) -> float:
        """Train one step, and return its seconds."""
        self._say("")
        answer = self._answer()
        self.processor = float(answer["processor"])
        return float(answer["seconds"])

    def end(self) -> dict[str, Any]:
        """Return ``losses`` by step, the ``peak`` memory in bytes, and alignzoo's ``batches``; after the last step."""
        answer = self._answer()
        self.lengths = answer["lengths"]
        self._answer()  # all is written
        return answer

    def close(self) -> None:
        """End the program, also in the midst of a training."""
        self.process.kill()
        self.process.communicate()
        self.answers.close()

    def _say(self, line: str) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended: its answer will be missing
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        """Return its next line.

        Raises:
            UserError: it failed; the message ends with the last lines that it wrote.
        """
        line = self.answers.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"exit": self.process.wait()}
        if answer.get("exit"):
            raise make_error(self.name, answer["exit"], self.log)
        return answer


def make_error(name: str, code: int, log: Path) -> UserError:
    """Return the error that says so, with the last lines that the program wrote."""
    tail = log.read_text(encoding="utf-8").splitlines()[-TAIL:]
    return UserError("\n".join([f"{name} failed with exit code {code}:", *tail]))


def list_programs(llamafactory: str | None) -> dict[str, list[str]]:
    """Return name -> command of the programs to compare; ``llamafactory``: a Python that has LLaMA-Factory, or None."""
    found = {
        "alignzoo": [sys.executable, "-m", f"{SIDES}.with_alignzoo"],
        "trl": [sys.executable, "-m", f"{SIDES}.plain_trl"],
    }
    if llamafactory:
        found["llamafactory"] = [llamafactory, str(Path(__file__).parent / "sides" / "with_llamafactory.py")]
    return found


def find_llamafactory(python: str | None) -> str | None:
    """Return ``python``, or this process's where LLaMA-Factory is installed beside alignzoo, or None."""
    return python or (sys.executable if importlib.util.find_spec("llamafactory") else None)

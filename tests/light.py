"""Runs command lines in one process that imports nothing heavy, as a user's shell would run each by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from inprocess import call, restored

from alignzoo.plugin.registry import registry

#: What no command that trains nothing imports.
HEAVY = frozenset({"torch", "transformers", "datasets", "trl", "peft", "accelerate", "pandas", "matplotlib", "wandb"})


class Light:
    """A process that has imported what the command line imports."""

    def __init__(self, python: str | Path = sys.executable) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([python, __file__], env=environment, **pipes)

    def run(self, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``alignzoo WORDS`` in ``cwd``, and check that it imported nothing heavy."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"words": words, "cwd": str(cwd), "variables": variables}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer.pop("heavy") == [], answer
        return subprocess.CompletedProcess(words, **answer)

    def close(self) -> None:
        self.process.communicate(timeout=10)


def _answer(words: list[str], cwd: str, variables: dict[str, str]) -> dict[str, Any]:
    with restored():
        os.chdir(cwd)
        os.environ.update(variables)
        registry.cache_clear()  # it depends on a variable
        try:
            done = call(*words)
        except Exception:
            return {"returncode": 1, "stdout": "", "stderr": traceback.format_exc(), "heavy": []}
    heavy = sorted(HEAVY & sys.modules.keys())
    return {"returncode": done.code, "stdout": done.out, "stderr": done.err, "heavy": heavy}


if __name__ == "__main__":
    for line in sys.stdin:
        found = _answer(**json.loads(line))
        print(json.dumps({**found, "heavy": sorted(HEAVY & sys.modules.keys())}), flush=True)

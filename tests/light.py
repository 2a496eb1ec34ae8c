"""Runs command lines in one process that cannot import torch or datasets, and that tells what else it imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from inprocess import call, restored

#: What no command that trains nothing imports.
HEAVY = frozenset({"torch", "transformers", "datasets", "trl", "peft", "accelerate", "pandas", "matplotlib", "wandb"})


class Light:
    """A process that has imported what the command line imports, and nothing heavy."""

    def __init__(self, folder: Path) -> None:
        for name in ("torch", "datasets"):
            (folder / f"{name}.py").write_text("raise AssertionError('imported before the mistake was found')\n")
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, __file__], env={**os.environ, "PYTHONPATH": path}, **pipes)

    def run(self, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``alignzoo WORDS`` in ``cwd``."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"words": words, "cwd": str(cwd), "variables": variables}) + "\n")
        self.process.stdin.flush()
        done: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert done.pop("heavy") == []
        return subprocess.CompletedProcess(words, **done)

    def close(self) -> None:
        self.process.communicate(timeout=10)


def _answer(words: list[str], cwd: str, variables: dict[str, str]) -> dict[str, Any]:
    with restored():
        os.chdir(cwd)
        os.environ.update(variables)
        try:
            done = call(*words)
        except Exception:
            return {"returncode": 1, "stdout": "", "stderr": traceback.format_exc(), "heavy": []}
    heavy = sorted(HEAVY & sys.modules.keys())
    return {"returncode": done.code, "stdout": done.out, "stderr": done.err, "heavy": heavy}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_answer(**json.loads(line))), flush=True)

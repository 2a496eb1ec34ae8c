"""Runs command lines in one process that cannot import torch or datasets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from inprocess import call, restored


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
        return subprocess.CompletedProcess(words, **json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.communicate(timeout=10)


def _answer(words: list[str], cwd: str, variables: dict[str, str]) -> dict[str, Any]:
    with restored():
        os.chdir(cwd)
        os.environ.update(variables)
        try:
            done = call(*words)
        except Exception:
            return {"returncode": 1, "stdout": "", "stderr": traceback.format_exc()}
    return {"returncode": done.code, "stdout": done.out, "stderr": done.err}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(_answer(**json.loads(line))), flush=True)

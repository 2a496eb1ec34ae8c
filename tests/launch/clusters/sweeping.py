"""What tests of sweeps on clusters share: jobs that fail or stand still, and what is left of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from conftest import QUICK

#: A study of two methods, and far too few prompts.
STUDY = ("study", "method=dpo,simpo", *QUICK, "evaluate.shown=0", "train.max_steps=2")
STUDY = (*STUDY, "study.trials=2", "study.seeds=2", "study.underpowered=run", "study.number=preference_accuracy")

#: A plugin that does what $ALIGNZOO_DO says for a job's beta, at the second step of its first rank. Ray hands on
#: variables of such names.
DOING = """
import json, os, time
from alignzoo import hookimpl

@hookimpl
def alignzoo_callbacks(cfg):
    from transformers import TrainerCallback

    class Do(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step != 2 or os.environ.get("RANK", "0") != "0":
                return
            way = json.loads(os.environ.get("ALIGNZOO_DO", "{}")).get(str(cfg.method.beta))
            if way == "raise":
                raise RuntimeError("the moon is full")
            if way == "kill the parent":
                os.kill(os.getppid(), 9)
            open(os.path.join(os.environ["ALIGNZOO_HERE"], str(cfg.method.beta)), "w").write(str(os.getpid()))
            if way == "wait":
                time.sleep(600)

    return [Do()]
"""


def doing(folder: Path) -> dict[str, str]:
    """Install the plugin for subprocesses; return the variables that they need."""
    (folder / "here").mkdir()
    return {**install(folder, "doing", DOING), "ALIGNZOO_HERE": str(folder / "here")}


def install(folder: Path, name: str, code: str) -> dict[str, str]:
    info = folder / "site" / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info.parent / f"{name}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[alignzoo]\n{name} = {name}\n")
    return {"PYTHONPATH": str(info.parent)}


def compare_studies(
    alignzoo: Callable[..., subprocess.CompletedProcess[str]], folder: Path, *where: str, **variables: str
) -> None:
    """Run the study here, and again ``where`` these words say: both end with the same table and completions."""
    for name, words in (("here", ()), ("there", where)):
        done = alignzoo(*STUDY, *words, f"hydra.sweep.dir={name}", timeout=900, **variables)
        assert done.returncode == 0, done.stderr
    assert (folder / "here" / "study.csv").read_text() == (folder / "there" / "study.csv").read_text()
    runs = [file.relative_to(folder / "here") for file in (folder / "here").glob("*/*/answers.jsonl")]
    assert len(runs) == 8
    assert all((folder / "here" / run).read_text() == (folder / "there" / run).read_text() for run in runs)


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait for what a process does; ``out`` is where it prints to."""
    end = time.monotonic() + 240
    while not ready():
        assert process.poll() is None, out.read_text()
        assert time.monotonic() < end, out.read_text()
        time.sleep(0.1)


def finished(sweep: Path) -> str:
    """Return the numbers of the jobs that have a result."""
    return "".join(sorted(file.parent.name[0] for file in sweep.glob("*/result.json")))


def left(folder: Path) -> list[str]:
    """Return the processes that still work in ``folder``, but joblib's caretaker, which ends last, and Ray's own."""
    found = psutil.process_iter(["cmdline", "cwd"])
    lines = [" ".join(process.info["cmdline"] or []) for process in found if process.info["cwd"] == str(folder)]
    return [line for line in lines if "resource_tracker" not in line and not line.startswith(("ray::IDLE", "ray::_"))]


def gone(folder: Path, within: float) -> bool:
    end = time.monotonic() + within
    while left(folder) and time.monotonic() < end:
        time.sleep(0.1)
    return not left(folder)

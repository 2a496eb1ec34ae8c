"""A plugin whose callback stops a process, and what runs of several processes are compared by."""

from __future__ import annotations

import json
from pathlib import Path

#: A plugin whose callback stops the named ranks at the second step in the way that the variable STOP says.
STOPPING = """
import os, signal, time
from alignzoo import hookimpl

@hookimpl
def alignzoo_callbacks(cfg):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            way, rank = os.environ.get("STOP", ":").split(":")
            if state.global_step != 2 or rank not in ("", os.environ.get("RANK")):
                return
            if way == "raise":
                raise RuntimeError("the moon is full")
            if way == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if way == "tell":
                os.kill(os.getpid(), signal.SIGUSR1)
            if way == "wait":
                open(os.environ["HERE"], "a").write("waiting")
                time.sleep(600)

    return [Stop()]
"""


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def difference(one: Path, other: Path) -> float:
    from safetensors.torch import load_file

    weights = [load_file(folder / "model" / "model.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    return max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])

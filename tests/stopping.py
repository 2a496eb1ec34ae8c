"""A plugin that stops its own run at given steps, and what must be equal of a stopped run and an undisturbed one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

#: At each step that $STOPS names, the run gets $SIGNAL, as a scheduler would send it. The reward scores an answer by
#: how many it has seen.
PLUGIN = '''
import os, signal
from alignzoo import Reward, hookimpl

class Counting(Reward):
    """Counts."""

    name = "counting"

    def __init__(self):
        self.seen = 0

    def __call__(self, prompts, completions, **columns):
        self.seen += len(completions)
        return [(self.seen + number) * 0.37 % 1 for number in range(len(completions))]

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]

@hookimpl
def alignzoo_rewards():
    return [Counting]

@hookimpl
def alignzoo_callbacks(cfg):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if str(state.global_step + 1) in os.environ.get("STOPS", "").split(","):
                os.kill(os.getpid(), getattr(signal, os.environ.get("SIGNAL", "SIGTERM")))

    return [Stop()]
'''

#: Endings of the metrics that depend on the clock.
TIMES = ("step_time", "_runtime", "_per_second")

#: Endings of a leaderboard's columns that depend on the clock, on memory, on the place, or on where a run was stopped.
UNLIKE = ("_seconds", "_memory_bytes", "folders", "resumed")


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Return metrics.jsonl without times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith(TIMES)} for line in lines]


def weights(folder: Path) -> bytes:
    """Return the trained model's weights, or its adapter's."""
    (file,) = (folder / "model").glob("*.safetensors")
    return file.read_bytes()


def result(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def outcome(folder: Path) -> dict[str, Any]:
    """Return result.json without what depends on the clock, on memory, on the place, and on where a run was stopped."""
    found = result(folder)
    for model in ("start", "against"):
        del found[model]
    cost = found["cost"]
    found["cost"] = {key: cost[key] for key in ("steps", "trained_tokens", "flops")}
    return found


def board(folder: Path) -> list[dict[str, str]]:
    """Return leaderboard.csv without what depends on the clock and on the place."""
    with (folder / "leaderboard.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [{key: value for key, value in row.items() if not key.endswith(UNLIKE)} for row in rows]


def same(folder: Path, other: Path) -> None:
    """Check that two runs came out the same: weights bit for bit, every metric and answer, all that was measured."""
    assert metrics(folder) == metrics(other)
    assert weights(folder) == weights(other)
    assert (folder / "answers.jsonl").read_bytes() == (other / "answers.jsonl").read_bytes()
    assert outcome(folder) == outcome(other)
    assert files(folder) == files(other)


def same_group(folder: Path, other: Path) -> None:
    """Check the same of two pipelines or sweeps: of each of their runs, of their leaderboards, and of their files."""
    runs, others = ({file.parent.relative_to(root) for file in root.rglob("run.yaml")} for root in (folder, other))
    assert runs == others
    for run in runs:
        same(folder / run, other / run)
    assert board(folder) == board(other)
    assert files(folder) == files(other)


def near(folder: Path, other: Path, within: float) -> float:
    """Check the same of runs of several processes, numbers ``within`` of each other; return the weights' difference."""
    from safetensors.torch import load

    ours, theirs = load(weights(folder)), load(weights(other))
    assert ours.keys() == theirs.keys()
    furthest = max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
    assert furthest <= within
    for line, expected in zip(metrics(folder), metrics(other), strict=True):
        assert line == pytest.approx(expected, abs=within)
    assert result(folder)["after"] == pytest.approx(result(other)["after"], abs=100 * within)
    assert files(folder) == files(other)
    return furthest


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"checkpoints"}

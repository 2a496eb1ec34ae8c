"""Run folders as they are at some point of a run, made by hand."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from made_up import make_settings

from alignzoo.runs.progress import FILE, TRAINING, Progress, append_answers
from alignzoo.runs.sweep_status import BASIC, PLAN
from alignzoo.study.protocol import Protocol

PROMPTS = [f"What is {word}?" for word in ("salt", "rain", "iron", "a comet", "yeast", "tin", "wool")]


def plan_sweep(folder: Path, *words: str) -> Path:
    """Write Hydra's account of a sweep."""
    folder.mkdir(parents=True, exist_ok=True)
    hydra = {"sweeper": {"_target_": BASIC}, "overrides": {"task": [*words], "hydra": ["hydra.mode=MULTIRUN"]}}
    (folder / PLAN).write_text(yaml.safe_dump({"hydra": hydra}))
    return folder


def plan_study(folder: Path) -> Path:
    """Write the protocol of a study of two methods, two trials and two seeds."""
    methods, trials = ("dpo", "simpo"), [{"beta": 0.1}, {"beta": 0.2}]
    settings = make_settings(trials=2, seeds=2, rates=(0.2, 5.0))
    none: dict[str, Any] = {method: [] for method in methods}
    Protocol(settings, none, dict.fromkeys(methods, trials), 0, ["model=tiny"]).fix(folder)
    return folder


def begin(folder: Path, method: str = "dpo", *words: str) -> Path:
    """Write what a run has written before it trains."""
    folder.mkdir(parents=True)
    command = shlex.join(["python", "-m", "alignzoo", f"method={method}", *words])
    (folder / "command.txt").write_text(f"{command}\n")
    (folder / "run.yaml").write_text(yaml.safe_dump({"seed": 0, "method": {"name": method}}))
    return folder


def train(folder: Path, steps: int, until: int, rise: float = 1.0, phase: str = TRAINING) -> Path:
    """Write what a run of so many steps has logged until one of them, a second a step."""
    lines = [{"step": n, **_log(n / steps, rise)} for n in range(1, until + 1)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    now = Progress(phase, until, steps, 0, float(until), 3_200_000_000, 9_000_000_000)
    (folder / FILE).write_text(json.dumps(asdict(now)))
    return folder


def _log(share: float, rise: float) -> dict[str, float]:
    accuracy = 0.5 + 0.45 * (1 - math.exp(-3 * rise * share))
    return {"loss": 0.69 - 0.4 * rise * share, "rewards/accuracies": accuracy, "rewards/margins": 2 * rise * share}


def answer(folder: Path, step: int, said: str) -> None:
    """Write that each prompt was answered with ``said`` at this step."""
    rows = enumerate(PROMPTS[:5])
    append_answers(folder, step, [{"id": n, "prompt": prompt, "text": said, "ended": True} for n, prompt in rows])


def finish(folder: Path, value: float = 0.8, said: str = "Trained.", seconds: float = 60.0) -> Path:
    """Write the end of a run whose start model said "Start."."""
    sides = {"before": {"text": "Start."}, "after": {"text": said}}
    lines = [{"id": n, "prompt": prompt, **sides} for n, prompt in enumerate(PROMPTS)]
    sides = {side: {**one, "tokens": 2, "ended": True} for side, one in sides.items()}
    lines = [{**line, **sides} for line in lines]
    (folder / "answers.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    cost = {"steps": 40, "total_seconds": seconds, "measure_seconds": 4.0, "peak_memory_bytes": 3_200_000_000}
    numbers = {"before": {"preference_accuracy": 0.5}, "after": {"preference_accuracy": value}}
    result = {"method": "dpo", "objective": "preference_accuracy", **numbers, "cost": cost}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def fail(folder: Path, reason: str) -> Path:
    """Write why a run failed."""
    (folder / "error.txt").write_text(f"{reason}\n")
    return folder


def make_sweep(folder: Path) -> Path:
    """Write a sweep: one job done, one half way, one failed, one that has not begun."""
    plan_sweep(folder, "method=dpo,ipo", "method.beta=0.1,0.5", "model=tiny")
    finish(train(begin(folder / "0-dpo"), 40, 40), seconds=60.0)
    train(begin(folder / "1-dpo"), 40, 10)
    fail(train(begin(folder / "2-ipo", "ipo"), 40, 3), "the moon is full\nand more")
    return folder


@contextmanager
def hold_elsewhere(folder: Path) -> Iterator[None]:
    """Leave the name of a process of another machine in the folder, whose lock does not reach this one."""
    file = folder / ".lock"
    file.write_text("process 12 on another-machine\n")
    yield
    file.unlink()


def pick(runs: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """Return one value of each run."""
    return [run.get(key) for run in runs]

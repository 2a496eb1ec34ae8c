"""Run folders made by hand, with the numbers that alignzoo itself computes of their answers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from alignzoo.evaluate.metrics import summarise

COST = {
    "steps": 20,
    "train_seconds": 60.0,
    "total_seconds": 90.0,
    "measure_seconds": 20.0,
    "trained_tokens": 1000,
    "flops": 1e12,
    "peak_memory_bytes": 1_000_000_000,
}
WORDS = ["rain", "falls", "because", "warm", "wet", "air", "rises", "cools", "and", "lets", "its", "water"]


def seen(chosen: float, rejected: float, **more: Any) -> dict[str, Any]:
    """Return one side of a line: twelve different words, ended."""
    text = {"text": " ".join(WORDS), "tokens": 12, "ended": True}
    return {
        **text,
        "chosen": chosen,
        "rejected": rejected,
        "kl": 0.0,
        "kl_tokens": 1,
        "reward": None,
        "win": None,
        **more,
    }


def lines(margins: Sequence[float], before: Mapping[str, Any] | None = None, **after: Any) -> list[dict[str, Any]]:
    """Return a line a prompt whose chosen answer gained ``margin`` nats more than the rejected one."""
    return [
        {
            "id": f"p{place}",
            "prompt": f"Why {place}?",
            "chosen_tokens": 10,
            "rejected_tokens": 20,
            "before": seen(-10.0, -20.0, **(before or {})),
            "after": seen(-10.0 + margin, -20.0, **{"kl": 1.0, "kl_tokens": 10, **after}),
        }
        for place, margin in enumerate(margins)
    ]


def pairs(right: int, of: int = 48) -> list[float]:
    """Return margins with which the first ``right`` of ``of`` pairs are told apart."""
    return [1.0] * right + [-1.0] * (of - right)


def make_run(
    folder: Path,
    overrides: str,
    answers: Sequence[Mapping[str, Any]] = (),
    history: Sequence[Mapping[str, Any]] = (),
    result: Mapping[str, Any] | None = None,
) -> Path:
    """Write the folder of a finished run with these overrides, as ``method=dpo method.beta=0.1 seed=1``."""
    folder.mkdir(parents=True)
    started(folder, overrides)
    flat = dict(word.split("=", 1) for word in overrides.split())
    found = {
        "method": flat.get("method", "dpo"),
        "objective": "preference_accuracy",
        "data": {"train": "t0", "heldout": "h0"},
        **summarise(answers),
        "cost": COST,
        **(result or {}),
    }
    write_lines(folder / "answers.jsonl", answers)
    write_lines(folder / "metrics.jsonl", history)
    (folder / "result.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def started(folder: Path, overrides: str) -> None:
    """Write what a run has written before it trains."""
    folder.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "-m", "alignzoo", *overrides.split()])
    (folder / "command.txt").write_text(f"{command}\n", encoding="utf-8")
    config: dict[str, Any] = {"seed": 0, "method": {"name": "dpo", "beta": 0.2}, "train": {"max_steps": -1}}
    for word in overrides.split():
        key, value = word.split("=", 1)
        place = config
        *parents, last = ("method.name" if key == "method" else key).split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(value)
    (folder / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def write_lines(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

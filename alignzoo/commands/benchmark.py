"""``python -m alignzoo benchmark``: what alignzoo costs beside a plain TRL script, measured in one interleaved run.

Two questions. Steps: the time of one update of DPO through alignzoo (its rows, guards, metrics and progress) over that
of TRL's own trainer on the same token ids and settings, with the losses compared. Start: the time of ``--help``,
``list`` and a misspelt key beside ``python -c "import hydra"``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

START_COMMANDS = {
    "import hydra": ["-c", "import hydra"],
    "--help": ["-m", "alignzoo", "--help"],
    "list": ["-m", "alignzoo", "list"],
    "a misspelt key": ["-m", "alignzoo", "method.bta=0.1"],
}


def main(words: Sequence[str]) -> int:
    """Measure, print a table, and write ``benchmark.json`` into ``--out``."""
    parser = argparse.ArgumentParser(prog="alignzoo benchmark", description="alignzoo beside a plain TRL script.")
    parser.add_argument("--quick", action="store_true", help="the tiny model only: under a minute")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are reported (default 5)")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for benchmark.json (default: this one)")
    options = parser.parse_args(words)
    models = ["tiny"] if options.quick else ["tiny", "bundled"]
    result = {
        "start": measure_start(options.rounds),
        "steps": {model: measure_steps(model, options.rounds, 20 if model == "tiny" else 4) for model in models},
    }
    _print(result)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "benchmark.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def measure_start(rounds: int) -> dict[str, float]:
    """Return the median seconds of each of :data:`START_COMMANDS`, one after the other in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in START_COMMANDS}
    for _ in range(rounds):
        for name, command in START_COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=False)
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def measure_steps(model: str, rounds: int, steps: int) -> dict[str, float]:
    """Return median seconds an update of both, their ratio, and the largest difference between their losses."""
    with tempfile.TemporaryDirectory() as scratch:
        builders = _builders(model, steps, Path(scratch))
        times: dict[str, list[float]] = {name: [] for name in builders}
        losses: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            for name, build in builders.items():
                seconds, losses[name] = _timed(build())
                if turn:  # the first round warms up
                    times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    pairs = zip(losses["alignzoo"], losses["trl"], strict=True)
    ratio = statistics.median(a / b for a, b in zip(times["alignzoo"], times["trl"], strict=True))
    return {**medians, "ratio": ratio, "loss_difference": max(abs(a - b) for a, b in pairs)}


def _timed(trainer: Any) -> tuple[float, list[float]]:
    """Train; return seconds an update, without the first, and the logged losses."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        ticks: list[float] = []

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.ticks.append(time.perf_counter())

    Clock.ticks = []
    trainer.add_callback(Clock)
    trainer.train()
    losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
    return (Clock.ticks[-1] - Clock.ticks[0]) / (len(Clock.ticks) - 1), losses


def _builders(model: str, steps: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """Return two functions that build a fresh trainer: alignzoo's DPO, and TRL's on the same rows and settings."""
    from transformers import PrinterCallback
    from trl import DPOTrainer

    from alignzoo import launch, models, settings
    from alignzoo.arguments import trl_config
    from alignzoo.compose import composed
    from alignzoo.ready import make_ready
    from alignzoo.record import Record
    from alignzoo.train import train_parts

    cfg = composed([f"model={model}", f"dataset.rows={4 * steps}", f"train.max_steps={steps}"])
    launch.quiet(cfg)
    method = settings.check(cfg)
    ready = make_ready(cfg, method)
    tokenizer, columns = ready.tokenizer, ("prompt_ids", "chosen_ids", "rejected_ids")
    texts = ready.rows.map(lambda row: {column[:-4]: tokenizer.decode(row[column]) for column in columns})
    texts = texts.select_columns(["prompt", "chosen", "rejected"])

    def policy() -> Any:
        return models.load_policy(ready.start, cfg, ready.device, ready.precision)

    def args() -> Any:
        return trl_config(cfg, method, folder, ready.device, ready.precision, ready.plan)

    def ours() -> Any:
        return method().build_trainer(train_parts(cfg, method, ready, args(), [], policy(), Record(folder)))

    def plain() -> Any:
        trainer = DPOTrainer(policy(), args=args(), train_dataset=texts, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        return trainer

    return {"alignzoo": ours, "trl": plain}


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    base = result["start"]["import hydra"]
    table = Table("start", "seconds", "limit: 3 x import hydra + 0.2", box=None, header_style="bold", pad_edge=False)
    for name, seconds in result["start"].items():
        table.add_row(name, f"{seconds:.2f}", "" if name == "import hydra" else f"{3 * base + 0.2:.2f}")
    console.print(table, "")
    table = Table(
        "DPO, one update", "alignzoo", "plain TRL", "ratio", "losses differ by at most", box=None, pad_edge=False
    )
    for name, row in result["steps"].items():
        cells = (
            f"{row['alignzoo']:.4f} s",
            f"{row['trl']:.4f} s",
            f"{row['ratio']:.3f}",
            f"{row['loss_difference']:.1e}",
        )
        table.add_row(name, *cells)
    console.print(table)

"""The time of one update of DPO through alignzoo over that of TRL's own trainer, on the same token ids and settings."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def measure_steps(model: str, rounds: int, steps: int) -> dict[str, float]:
    """Return median seconds an update of both, their ratio, and the largest difference between their losses."""
    from alignzoo.speed.backbone import stop_sharing

    with tempfile.TemporaryDirectory() as scratch:
        builders = _builders(model, steps, Path(scratch))
        times: dict[str, list[float]] = {name: [] for name in builders}
        losses: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            for name, build in builders.items():
                trainer = build()
                seconds, losses[name] = _timed(trainer)
                stop_sharing(trainer.model)  # what is left of it would make TRL's head faster too
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
    from alignzoo.rewards import Rewards
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
        return method().build_trainer(
            train_parts(cfg, method, ready, args(), Rewards([], [], ready.stops), policy(), Record(folder))
        )

    def plain() -> Any:
        trainer = DPOTrainer(policy(), args=args(), train_dataset=texts, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        return trainer

    return {"alignzoo": ours, "trl": plain}

"""The time of one update of DPO through alignzoo over that of TRL's own trainer, on the same token ids and settings."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def measure_steps(model: str, rounds: int, steps: int) -> dict[str, float]:
    """Return median seconds an update of both, their ratio, and the largest difference between their losses."""
    from alignzoo.speed.backbone import stop_sharing

    with tempfile.TemporaryDirectory() as scratch:
        side = Side(model, [f"dataset.rows={4 * steps}", f"train.max_steps={steps}"], Path(scratch))
        builders = {"alignzoo": side.alignzoo, "trl": side.trl}
        times: dict[str, list[float]] = {name: [] for name in builders}
        losses: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            for name, build in builders.items():
                trainer = build()
                seconds, losses[name] = timed(trainer)
                stop_sharing(trainer.model)  # what is left of it would make TRL's head faster too
                if turn:  # the first round warms up
                    times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    pairs = zip(losses["alignzoo"], losses["trl"], strict=True)
    ratio = statistics.median(a / b for a, b in zip(times["alignzoo"], times["trl"], strict=True))
    return {**medians, "ratio": ratio, "loss_difference": max(abs(a - b) for a, b in pairs)}


def timed(trainer: Any) -> tuple[float, list[float]]:
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


class Side:
    """One setting of DPO, and two functions that build a fresh trainer for it: alignzoo's, and TRL's own."""

    def __init__(self, model: str, overrides: Sequence[str], folder: Path) -> None:
        """Compose the config and prepare the rows; ``folder`` is written by the trainers."""
        from alignzoo import launch, settings
        from alignzoo.compose import composed
        from alignzoo.ready import make_ready

        self.cfg = composed([f"model={model}", *overrides])
        launch.quiet(self.cfg)
        self.method = settings.check(self.cfg)
        self.ready = make_ready(self.cfg, self.method)
        self.folder = folder

    def policy(self) -> Any:
        """Return the start model."""
        from alignzoo import models

        return models.load_policy(self.ready.start, self.cfg, self.ready.device, self.ready.precision)

    def alignzoo(self) -> Any:
        """Return the trainer that ``python -m alignzoo`` builds."""
        from alignzoo.record import Record
        from alignzoo.rewards import Rewards
        from alignzoo.train import train_parts

        rewards, record = Rewards([], [], self.ready.stops), Record(self.folder)
        parts = train_parts(self.cfg, self.method, self.ready, self._args(), rewards, self.policy(), record)
        return self.method().build_trainer(parts)

    def trl(self) -> Any:
        """Return TRL's on the same rows, as texts, and settings."""
        from transformers import PrinterCallback
        from trl import DPOTrainer

        tokenizer, columns = self.ready.tokenizer, ("prompt_ids", "chosen_ids", "rejected_ids")
        texts = self.ready.rows.map(lambda row: {column[:-4]: tokenizer.decode(row[column]) for column in columns})
        texts = texts.select_columns(["prompt", "chosen", "rejected"])
        trainer = DPOTrainer(self.policy(), args=self._args(), train_dataset=texts, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        return trainer

    def _args(self) -> Any:
        from alignzoo.arguments import trl_config

        ready = self.ready
        return trl_config(self.cfg, self.method, self.folder, ready.device, ready.precision, ready.plan)

"""Measures a step of DPO through alignzoo beside one of TRL's own trainer, on the same token ids and settings."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset


def measure_steps(model: str, rounds: int, steps: int) -> dict[str, float]:
    """Return median seconds a step of both, their ratio, and the largest difference between their losses."""
    with tempfile.TemporaryDirectory() as scratch:
        # What is asked here is the cost of what alignzoo puts around TRL: all that makes it faster is off.
        same = ["speed.shared_prefix=off", "method.precompute_ref_log_probs=false"]
        side = Side([f"model={model}", f"dataset.rows={4 * steps}", f"train.max_steps={steps}", *same], Path(scratch))
        builders = {"alignzoo": side.alignzoo, "trl": side.trl}
        times: dict[str, list[float]] = {name: [] for name in builders}
        losses: dict[str, list[float]] = {}
        for turn in range(rounds + 1):
            for name, build in builders.items():
                trainer = build()
                seconds, losses[name] = time_steps(trainer)
                if turn:  # the first round warms up
                    times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    pairs = zip(losses["alignzoo"], losses["trl"], strict=True)
    ratio = statistics.median(a / b for a, b in zip(times["alignzoo"], times["trl"], strict=True))
    return {**medians, "ratio": ratio, "loss_difference": max(abs(a - b) for a, b in pairs)}


def time_steps(trainer: Any) -> tuple[float, list[float]]:
    """Train; return seconds a step, without the first, and the logged losses."""
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
    """One setting, and functions that build a fresh trainer for it: alignzoo's, and for DPO TRL's own."""

    def __init__(self, overrides: Sequence[str], folder: Path) -> None:
        """Compose the config and prepare the rows; ``folder`` is written by the trainers."""
        from alignzoo.config.check import check
        from alignzoo.config.compose import compose
        from alignzoo.train.inputs import prepare_run

        self.inputs = prepare_run(check(compose(overrides)))
        self.cfg, self.method = self.inputs.cfg, self.inputs.method
        self.folder = folder

    def policy(self) -> Any:
        """Return the start model."""
        return self.inputs.load_model()

    def alignzoo(self) -> Any:
        """Return the trainer that ``python -m alignzoo`` builds."""
        from alignzoo.runs.record import Record
        from alignzoo.train.callbacks import make_callbacks

        args = self.inputs.make_trl_config(self.folder)
        callbacks = make_callbacks(self.inputs.checked, Record(self.folder))
        return self.inputs.build_trainer(args, self.policy(), callbacks)

    def trl(self) -> Any:
        """Return TRL's on the same rows, as texts, and settings."""
        from transformers import PrinterCallback
        from trl import DPOTrainer

        tokenizer = self.inputs.tokenizer
        trainer = DPOTrainer(self.policy(), args=self._args(), train_dataset=self.texts(), processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        return trainer

    def texts(self) -> Dataset:
        """Return the rows as texts that TRL turns into the same token ids, with the label where there is one."""
        tokenizer, rows = self.inputs.tokenizer, self.inputs.rows
        columns = [name for name in rows.column_names if name.endswith("_ids") and not name.startswith("KL_")]
        texts = rows.map(lambda row: {name.removesuffix("_ids"): tokenizer.decode(row[name]) for name in columns})
        kept = [name.removesuffix("_ids") for name in columns]
        return texts.select_columns([*kept, *(["label"] if "label" in rows.column_names else [])])

    def _args(self) -> Any:
        from alignzoo.train.trl_config import make_trl_config

        return make_trl_config(self.inputs.checked, self.folder, self.inputs.plan)

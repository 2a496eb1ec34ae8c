"""Writes what `alignzoo watch` follows of a training: how far it is, and what it answers to some held-out prompts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from alignzoo.runs.progress import MEASURING, TRAINING, Progress, append_answers, write_progress
from alignzoo.runs.pruning import list_steps
from alignzoo.train.cost import read_free_memory, read_peak_memory
from alignzoo.train.processes import refuse_sharded_weights

if TYPE_CHECKING:
    from alignzoo.train.inputs import RunInputs

PROMPTS = 5  #: held-out prompts whose answers are followed, the first ones
EVERY = 2.0  #: seconds between two writes of the progress: less than the page asks for, and nothing beside a step


class WriteProgress(TrainerCallback):
    """Writes ``progress.json`` at the end of a step, every few seconds; on the main process only."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        self.began, self.written, self.first_step = 0.0, 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note when the training begins, and at which step."""
        self.began, self.first_step = time.monotonic(), state.global_step
        self._write(state, TRAINING)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write, unless that was just done."""
        if time.monotonic() - self.written >= EVERY:
            self._write(state, TRAINING)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say that what comes is the measuring."""
        self._write(state, MEASURING)

    def _write(self, state: Any, phase: str) -> None:
        if not state.is_world_process_zero:
            return
        self.written = time.monotonic()
        steps, seconds = (state.global_step, state.max_steps, self.first_step), self.written - self.began
        memory = read_peak_memory(self.device), read_free_memory(self.device)
        write_progress(self.folder, Progress(phase, *steps, seconds, *memory))


class AnswerOnTheWay(TrainerCallback):
    """Writes what the model answers to the first held-out prompts: before the training, and some times during it."""

    def __init__(
        self,
        folder: Path,
        times: int,
        before: Sequence[dict[str, Any]],
        answer: Callable[[Any], list[dict[str, Any]]],
    ) -> None:
        """``before``: the start model's answers, as ``answer(model)`` returns those of a model, on all processes."""
        self.folder, self.times, self.before, self.answer = folder, times, before, answer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what the start model answers; of a run that is resumed, that is there."""
        if self.before and state.global_step == 0:
            append_answers(self.folder, 0, self.before)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Ask the model, on all processes alike, after each share of the steps."""
        if self.before and state.global_step in list_steps(state.max_steps, self.times + 1):
            append_answers(self.folder, state.global_step, self.answer(model))


def make_answers_on_the_way(
    inputs: RunInputs, folder: Path, yardstick: Any, before: Sequence[Any]
) -> list[AnswerOnTheWay]:
    """Return what follows the answers of a run in ``folder``, where the ``yardstick`` has measured any of the start.

    Raises:
        UserError: ``evaluate.on_the_way`` is asked of a strategy that cannot answer before its end.
    """
    if inputs.trains_reward_model or not before:
        return []
    times = int(inputs.cfg.evaluate.on_the_way)
    if times:
        refuse_sharded_weights(inputs.cfg, f"evaluate.on_the_way={times}")
    lines = yardstick.make_lines(before, before)[:PROMPTS]

    def describe(completions: Sequence[Any]) -> list[dict[str, Any]]:
        rows = zip(lines, completions, strict=True)
        return [{"id": row["id"], "prompt": row["prompt"], "text": one.text, "ended": one.ended} for row, one in rows]

    def answer(model: Any) -> list[dict[str, Any]]:
        return describe(yardstick.answer(model, PROMPTS))

    return [AnswerOnTheWay(folder, times, describe(before[:PROMPTS]), answer)]

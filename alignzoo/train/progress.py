"""Shows a training's progress: a bar with the method's headline numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from alignzoo.system.console import make_console

LINES = 10  #: lines printed over a run where the output is not a terminal


class ProgressBar(TrainerCallback):
    """A live bar on a terminal, a few plain lines elsewhere; on the main process only."""

    def __init__(self, title: str, headline: Mapping[str, str]) -> None:
        self.headline = {"loss": "loss", **headline}
        self.console = make_console()
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.title, self.numbers, self.task = title, "", self.bar.add_task(title, total=None, numbers="")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar."""
        if state.is_world_process_zero and self.console.is_terminal:
            self.bar.start()
        self.bar.update(self.task, total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move it."""
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the latest numbers."""
        found = {short: float((logs or {})[key]) for key, short in self.headline.items() if key in (logs or {})}
        if not found or not state.is_world_process_zero:
            return
        self.numbers = "  ".join(f"{name} {value:.3g}" for name, value in found.items())
        self.bar.update(self.task, numbers=self.numbers)
        every = max(1, state.max_steps // LINES)
        if not self.console.is_terminal and (state.global_step % every == 0 or state.global_step == 1):
            print(f"{self.title} {state.global_step}/{state.max_steps}  {self.numbers}", flush=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave the last state on the screen."""
        self.bar.stop()


@contextmanager
def restore_terminal(trainer: Any) -> Iterator[None]:
    """Stop the trainer's bar where the training inside ends by an error or Ctrl-C: the terminal has no cursor else."""
    try:
        yield
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, ProgressBar):
                callback.bar.stop()

"""Keeps the running means of a loss over a training, and over its resumes."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


class RunningMeans(TrainerCallback, ExportableState):
    """Sums and counts of the values that a loss has averaged; a checkpoint's trainer_state.json holds them."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}

    def state(self) -> dict[str, Any]:
        """Return what a resume restores."""
        return {"args": {}, "attributes": {"sums": {name: list(sums) for name, sums in self.sums.items()}}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Restore it: transformers does so only on demand, and puts another callback in this one's place."""
        saved = state.stateful_callbacks.get(type(self).__name__)
        self.sums = saved["attributes"]["sums"] if saved else {}

    def average(self, name: str, total: float, count: float, keep: bool) -> float:
        """Return the mean of all values so far and of ``count`` more that sum up to ``total``, which ``keep`` adds."""
        before = self.sums.get(name, [0.0, 0.0])
        after = [before[0] + total, before[1] + count]
        if keep:
            self.sums[name] = after
        used = after if keep or not before[1] else before
        return used[0] / used[1] if used[1] else 0.0

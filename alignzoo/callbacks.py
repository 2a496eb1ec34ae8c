"""What is written while a run trains."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from alignzoo.record import Record


class Metrics(TrainerCallback):
    """Appends every logged line to ``metrics.jsonl``, as numbers."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write on the main process only."""
        if state.is_world_process_zero and logs:
            self.record.metrics({"step": state.global_step, **{key: _number(value) for key, value in logs.items()}})


def _number(value: Any) -> Any:
    """Return a number that transformers prints as text; anything else as it is."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value

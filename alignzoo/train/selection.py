"""Finds out whether a run was selected, or selects among its own checkpoints, and on which rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignzoo.train.inputs import RunInputs


def find_selection(inputs: RunInputs, trainer: Any, by_sweep: bool) -> dict[str, str]:
    """Return ``selected_on`` for ``result.json``: ``validation``, or ``heldout``; nothing where nothing is selected.

    ``by_sweep``: a sweeper chooses its next jobs by this run's number.
    """
    if not (by_sweep or _selects_checkpoints(trainer)):
        return {}
    return {"selected_on": "validation" if inputs.data.validation else "heldout"}


def _selects_checkpoints(trainer: Any) -> bool:
    """Tell whether evaluation during the training decides which weights come out of it."""
    from transformers import EarlyStoppingCallback

    stops = any(isinstance(callback, EarlyStoppingCallback) for callback in trainer.callback_handler.callbacks)
    return bool(stops or trainer.args.load_best_model_at_end)

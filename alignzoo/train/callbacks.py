"""Makes a run's callbacks: metrics, guards, progress, and those of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from alignzoo.plugin.registry import registry
from alignzoo.train import guards
from alignzoo.train.averaging import make_weight_average
from alignzoo.train.following import WriteProgress
from alignzoo.train.progress import ProgressBar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.runs.record import Record


def make_callbacks(checked: Checked, record: Record) -> list[Any]:
    """Return the callbacks of a run, in the order in which they are called."""
    method = checked.method
    return [
        guards.FolderThere(record.watch),
        Metrics(record),
        guards.FirstLoss(method.first_loss(checked.cfg), method.needs_reference, checked.precision),
        guards.Finite(),
        guards.RewardsDiffer(),
        *make_weight_average(checked.cfg.average),
        WriteProgress(record.folder, checked.device),
        ProgressBar(checked.cfg.method.name, method.headline),
        *find_plugin_callbacks(checked.cfg),
    ]


def find_plugin_callbacks(cfg: DictConfig) -> Iterator[TrainerCallback]:
    """Yield the plugins' callbacks; a plugin that returns something else is left out."""
    for plugin, callback in registry().call("alignzoo_callbacks", cfg=cfg):
        if isinstance(callback, TrainerCallback):
            yield callback
        else:
            problem = f"alignzoo_callbacks returned {callback!r}, which is not a transformers.TrainerCallback"
            registry().leave_out(plugin, problem)


class Metrics(TrainerCallback):
    """Appends every logged line to ``metrics.jsonl``, as numbers."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write on the main process only."""
        if state.is_world_process_zero and logs:
            self.record.append_metrics(
                {"step": state.global_step, **{key: _to_number(value) for key, value in logs.items()}}
            )


def _to_number(value: Any) -> Any:
    """Return a number that transformers prints as text; anything else as it is."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value

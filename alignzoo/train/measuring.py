"""Measures a run's start model and what was trained, on each side: held-out rows, validation rows, tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.evaluate.judge import judge_lines
from alignzoo.models import start_model
from alignzoo.system import ranks
from alignzoo.train.cost import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Trainer

    from alignzoo.train.inputs import RunInputs


class Measuring:
    """The yardsticks of a run with what they measured, and the seconds that it took."""

    def __init__(self, inputs: RunInputs, judges: Sequence[Any]) -> None:
        """``judges`` compare the answers, in the main process."""
        self.inputs, self.judges = inputs, judges
        self.yardsticks = inputs.make_yardsticks()
        self.watch = Stopwatch()
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    @property
    def objective(self) -> str:
        """The run's number for sweeps and leaderboards."""
        return self.yardsticks["heldout"].objective

    def measure_start(self, model: Any) -> None:
        """Measure what the run is compared with; ``model`` is what will train, as it was loaded."""
        with self.watch:
            start, identity = self.inputs.place_baseline(model), start_model.identity(self.inputs.against)
            self.before = {side: one.measure_start(start, identity) for side, one in self.yardsticks.items()}

    def measure_trained(self, trainer: Trainer, folder: Path) -> None:
        """Measure the trained model, which was saved into the run's ``folder``."""
        with self.watch:
            trained, baseline = self.inputs.read_trained_model(trainer, folder), self.inputs.make_baseline_loader()
            self.after = {side: one.measure(trained, baseline) for side, one in self.yardsticks.items()}

    def judge(self) -> dict[str, list[dict[str, Any]]]:
        """Return the lines of each side, judged; the main process alone does it."""
        with ranks.work_alone():
            return {
                side: judge_lines(one.make_lines(self.before[side], self.after[side]), self.judges)
                for side, one in self.yardsticks.items()
            }

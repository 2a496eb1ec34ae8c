"""Measures a sweep's job on its way, and ends it where it has fallen behind the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from alignzoo.config.metrics import NUMBERS
from alignzoo.evaluate.judge import judge_lines
from alignzoo.evaluate.metrics import summarise
from alignzoo.runs.folder import NUMBER, VALUE
from alignzoo.runs.pruning import Pruned, Rule, list_steps, read_measured, require_optuna
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.train.processes import refuse_sharded_weights

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.runs.record import Record
    from alignzoo.train.inputs import RunInputs


class PruneBehind(TrainerCallback):
    """Measures the objective after each share of the training, and asks the rule."""

    def __init__(self, cfg: DictConfig, record: Record, objective: str, measure: Callable[[Any], float | None]) -> None:
        """``cfg`` is the group ``prune``; ``measure`` returns the objective of a model, the same on each process."""
        self.cfg, self.record, self.objective, self.measure = cfg, record, objective, measure
        known = {"maximize": True, "minimize": False, "auto": NUMBERS[objective].better == "high"}
        self.rule = Rule(cfg.rule, cfg.after, known[cfg.direction])

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Measure and decide, on all processes alike, before a checkpoint of this step is saved.

        Raises:
            Pruned: the run has fallen behind.
        """
        steps = list_steps(state.max_steps, self.cfg.measurements)
        if state.global_step not in steps:
            return
        value, number = self.measure(model), steps.index(state.global_step) + 1
        if value is None:
            raise UserError(f"prune.rule: {self.objective} is not measured, so that nothing can be pruned by it.")
        self.record.append_metrics({"step": state.global_step, NUMBER: number, VALUE: value})
        if ranks.broadcast(ranks.rank() == 0 and self._is_behind(number, value)):
            known = NUMBERS[self.objective]
            raise Pruned(
                f"pruned ({self.cfg.rule}) at step {state.global_step:,} of {state.max_steps:,}: "
                f"{known.label} {known.form.format(value)}"
            )

    def _is_behind(self, number: int, value: float) -> bool:
        from alignzoo.runs.folder import Run

        return self.rule.is_behind(self.record.folder, {**read_measured(Run(self.record.folder)), number: value})


def make_pruning(
    inputs: RunInputs, record: Record, yardsticks: dict[str, Any], before: dict[str, Any], judges: Any
) -> list[Any]:
    """Return the callback that measures the run on its way and ends it where it falls behind, if that was asked for."""
    if inputs.cfg.prune.rule == "none":
        return []
    side = "validation" if "validation" in yardsticks else "heldout"
    yardstick, objective = yardsticks[side], yardsticks[side].objective
    _check_pruning(inputs.cfg, objective)

    def measure(model: Any) -> float | None:
        after = yardstick.measure(model, inputs.make_baseline_loader())
        lines = yardstick.make_lines(before[side], after)
        numbers = summarise(judge_lines(lines, judges) if ranks.rank() == 0 else lines)["after"]
        return ranks.broadcast(numbers.get(objective))

    return [PruneBehind(inputs.cfg.prune, record, objective, measure)]


def _check_pruning(cfg: DictConfig, objective: str) -> None:
    """Refuse what cannot be pruned.

    Raises:
        UserError: the objective has no better direction, processes hold a share of each weight, or Optuna is missing.
    """
    require_optuna()
    if cfg.prune.direction == "auto" and not NUMBERS[objective].better:
        raise UserError(
            f"prune.rule={cfg.prune.rule}: which {objective} is better depends: add prune.direction=maximize."
        )
    refuse_sharded_weights(cfg, f"prune.rule={cfg.prune.rule}")

"""Decides whether a sweep's job has fallen behind, with Optuna's pruners, from what all jobs have logged."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.runs.folder import NUMBER, VALUE, Run
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study

FACTOR = 2  #: of successive halving: a rung lets the better half of its jobs go on


class Pruned(Exception):
    """The run has fallen behind the other jobs of its sweep; the text says how."""


@dataclass(frozen=True)
class Rule:
    """When a job of a sweep is pruned."""

    name: str
    """``median`` or ``asha``."""

    after: int
    """Finished jobs before the first is pruned, by the median rule."""

    is_higher_better: bool

    def is_behind(self, folder: Path, measured: Mapping[int, float]) -> bool:
        """Tell whether the run in ``folder`` is to be pruned.

        The median rule (Golovin et al., 2017) prunes below the median of finished jobs at the same measurement,
        successive halving (ASHA; Li et al., 2020) what is not among the better half at measurements 1, 2, 4, ...

        Args:
            folder: of the run; those of the other jobs are beside it.
            measured: number of the measurement, from 1 -> value.
        """
        from optuna.trial import TrialState

        study = _make_study(self._make_pruner(), self.is_higher_better)
        for other in _list_others(folder):
            values = read_measured(other)
            if other.is_finished and values:
                _add(study, TrialState.COMPLETE, values, values[max(values)])
            elif values and other.error is None:
                _add(study, TrialState.RUNNING, values)
        _add(study, TrialState.RUNNING, measured, halved=max(measured) - 1)
        return bool(study.pruner.prune(study, study.get_trials(deepcopy=False)[-1]))

    def _make_pruner(self) -> BasePruner:
        import optuna

        if self.name == "median":
            return optuna.pruners.MedianPruner(n_startup_trials=self.after)
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=FACTOR)


def read_measured(run: Run) -> dict[int, float]:
    """Return what a run measured on its way: number of the measurement, from 1 -> value."""
    return {int(line[NUMBER]): line[VALUE] for line in run.history if line.get(VALUE) is not None and NUMBER in line}


def require_optuna() -> None:
    """Refuse to prune without Optuna.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError("prune.rule needs Optuna: pip install 'alignzoo[optuna]'.") from None


def _list_others(folder: Path) -> Iterator[Run]:
    for path in sorted(folder.parent.iterdir()):
        if path.is_dir() and path.name != folder.name and (path / "metrics.jsonl").is_file():
            yield Run(path)


def _make_study(pruner: BasePruner, is_higher_better: bool) -> Study:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        return optuna.create_study(direction="maximize" if is_higher_better else "minimize", pruner=pruner)
    finally:
        optuna.logging.set_verbosity(before)


def _add(
    study: Study, state: Any, values: Mapping[int, float], value: float | None = None, halved: int | None = None
) -> None:
    """Add a job; ``halved``: the last measurement at which successive halving has judged it, None: the last one."""
    import optuna

    last = max(values) if halved is None else halved
    rungs = [rung for rung in range(last.bit_length()) if FACTOR**rung in values]
    # Where Optuna's pruner keeps the value with which a job has passed or failed a rung.
    known = {f"completed_rung_{rung}": values[FACTOR**rung] for rung in rungs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna 2, to which these are new
        trial = optuna.create_trial(state=state, value=value, intermediate_values=dict(values), system_attrs=known)
        study.add_trial(trial)


def list_steps(total: int, measurements: int) -> Sequence[int]:
    """Return after which of ``total`` optimizer steps a training is measured: evenly spread, and not at its end."""
    steps = [math.ceil(total * number / measurements) for number in range(1, measurements)]
    return [step for step in dict.fromkeys(steps) if step < total]

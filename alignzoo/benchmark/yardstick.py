"""Measures what the yardstick costs beside the training of a default run."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.benchmark.steps import Side, time_steps
from alignzoo.system.environment import restore_environment

if TYPE_CHECKING:
    from collections.abc import Callable


def measure_yardstick(model: str, rounds: int, steps: int) -> dict[str, float]:
    """Return the seconds of a default run's steps, of measuring what it trained and its start, and their shares.

    One default run is trained whole; its model is what is measured. Each round then times ``steps`` steps, of which
    the run has ``train.max_steps``. The reference's pass is left out: the true shares are lower. The start model is
    measured once per sweep: ``first`` is the share of the run that does it.
    """
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        whole, side = (Side([f"model={model}", *more], Path(scratch)) for more in ([], [f"train.max_steps={steps}"]))
        trainer = whole.alignzoo()
        trainer.train()
        trained, updates = trainer.model, whole.inputs.plan.updates
        yardstick = whole.inputs.make_yardstick()
        for turn in range(rounds + 1):
            train = time_steps(side.alignzoo())[0] * updates
            measure = _time(lambda: yardstick.measure(trained, whole.policy))
            start = _without_cache(lambda: yardstick.measure_start(whole.policy(), "benchmark"))
            if turn:  # the first round warms up
                rows.append(
                    {
                        "train": train,
                        "measure": measure,
                        "start": start,
                        "ratio": measure / train,
                        "first": (measure + start) / train,
                    }
                )
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _time(measure: Callable[[], object]) -> float:
    begin = time.perf_counter()
    measure()
    return time.perf_counter() - begin


def _without_cache(measure: Callable[[], object]) -> float:
    with tempfile.TemporaryDirectory() as empty, restore_environment(ALIGNZOO_CACHE=empty):
        return _time(measure)

"""What the yardstick costs beside the training that it measures: the default run's, on one model."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.benchmark.steps import Side, timed

if TYPE_CHECKING:
    from collections.abc import Callable


def measure_yardstick(model: str, rounds: int, steps: int) -> dict[str, float]:
    """Return the seconds of all updates of a default run, of measuring start and trained model, and their ratio.

    The updates' time is that of ``steps`` of them. The reference's pass is left out, and the model that is measured
    last is the start model again, whose answers are longer than a default run's: the true ratio is lower.
    """
    from alignzoo.rewards import Rewards

    updates, measures = [], []
    with tempfile.TemporaryDirectory() as scratch:
        side = Side([f"model={model}", f"train.max_steps={steps}"], Path(scratch))
        planned = Side([f"model={model}"], Path(scratch)).ready.plan.updates
        yardstick = side.ready.yardstick(side.cfg, Rewards([], [], side.ready.stops))
        for turn in range(rounds + 1):
            trainer = side.alignzoo()
            seconds, _ = timed(trainer)
            measured = _seconds(lambda: yardstick.measure(side.policy(), side.policy))
            measured += _without_cache(lambda: yardstick.measure_start(side.policy(), "benchmark"))
            if turn:  # the first round warms up
                updates.append(seconds)
                measures.append(measured)
    train, measure = statistics.median(updates) * planned, statistics.median(measures)
    ratio = statistics.median(m / (u * planned) for m, u in zip(measures, updates, strict=True))
    return {"train": train, "measure": measure, "ratio": ratio}


def _seconds(measure: Callable[[], object]) -> float:
    begin = time.perf_counter()
    measure()
    return time.perf_counter() - begin


def _without_cache(measure: Callable[[], object]) -> float:
    known = os.environ.get("ALIGNZOO_CACHE")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["ALIGNZOO_CACHE"] = empty
        try:
            return _seconds(measure)
        finally:
            os.environ.pop("ALIGNZOO_CACHE")
            if known is not None:
                os.environ["ALIGNZOO_CACHE"] = known

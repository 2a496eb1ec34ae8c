"""Trains with the trainer that ``python -m alignzoo`` builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# What the plain script imports at its top too: before the first case.
import datasets  # noqa: F401
import trl.experimental.orpo  # noqa: F401
from trl import DPOTrainer, GRPOTrainer, KTOTrainer  # noqa: F401

from alignzoo.benchmark.sides.pace import Pace, score_groups, serve
from alignzoo.benchmark.steps import Side
from alignzoo.models.sampling.patch import sampling_together
from alignzoo.models.shared_prefix.patch import share_prefixes
from alignzoo.train.cost import Stopwatch
from alignzoo.train.reference.precompute import CachedReference


def train(settings: dict[str, Any], pace: Pace) -> None:
    """Train, or score the groups that the settings give, step by step as ``pace`` is called."""
    reference = watch_reference()
    side = Side(settings["overrides"], Path(settings["folder"]))
    trainer = side.alignzoo()
    share_prefixes(side.cfg, getattr(trainer, "ref_model", None))
    pace.reference = reference.seconds
    if settings["groups"]:
        score_groups(trainer, settings["groups"], pace)
    else:
        trainer.add_callback(pace)
        with sampling_together(side.cfg, trainer):
            trainer.train()


def watch_reference() -> Stopwatch:
    """Return what adds up the seconds of this process's reference passes, which trainers make when they are built."""
    mixin: Any = CachedReference
    watch, original = Stopwatch(), mixin._precompute_ref_logps

    def timed(trainer: Any, *args: Any) -> Any:
        with watch:
            return original(trainer, *args)

    mixin._precompute_ref_logps = timed
    return watch


if __name__ == "__main__":
    serve(train)

"""Trains with the trainer that ``python -m alignzoo`` builds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

# What the plain script imports at its top too: before the first case.
import datasets  # noqa: F401
import trl.experimental.orpo  # noqa: F401
from trl import DPOTrainer, GRPOTrainer, KTOTrainer  # noqa: F401

from alignzoo.benchmark.sides.pace import Pace, score_groups, serve
from alignzoo.benchmark.steps import Side
from alignzoo.benchmark.work import count_batch
from alignzoo.models.sampling.patch import sampling_together
from alignzoo.models.shared_prefix.patch import share_prefixes
from alignzoo.plugin.method import DataFormat
from alignzoo.train.cost import Stopwatch
from alignzoo.train.reference.precompute import CachedReference


def train(settings: dict[str, Any], pace: Pace) -> None:
    """Train, or score the groups that the settings give, step by step as ``pace`` is called."""
    reference = watch_reference()
    side = Side(settings["overrides"], Path(settings["folder"]))
    trainer = side.alignzoo()
    share_prefixes(side.cfg, getattr(trainer, "ref_model", None))
    pace.reference = reference.seconds
    batches = [[group] for group in settings["groups"]] or remember_rows(trainer)
    if settings["groups"] or side.method.data is not DataFormat.PROMPTS:  # of prompts, the tokens are not known before
        scores_prompts = side.method.data is DataFormat.PREFERENCE and not side.method.needs_reference
        pace.count = partial(count_batches, batches, scores_prompts)
    if settings["groups"]:
        score_groups(trainer, settings["groups"], pace)
    else:
        trainer.add_callback(pace)
        with sampling_together(side.cfg, trainer):
            trainer.train()


def count_batches(batches: Sequence[Sequence[dict[str, Any]]], scores_prompts: bool) -> dict[str, Any]:
    """Return what the benchmark is told of the batches at the end."""
    return {"batches": [count_batch(rows, scores_prompts) for rows in batches]}


def remember_rows(trainer: Any) -> list[Sequence[dict[str, Any]]]:
    """Return a list that grows by the rows of each batch that is made for the trainer."""
    batches: list[Sequence[dict[str, Any]]] = []
    collate = trainer.data_collator

    def remember(rows: Sequence[dict[str, Any]]) -> Any:
        batches.append(rows)
        return collate(rows)

    trainer.data_collator = remember
    return batches


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

"""A plan holds the teacher in every phase, and computes it in each training pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from alignzoo.cli.plan import Machine, plan
from alignzoo.config.check import check
from alignzoo.plan.phases import list_phases
from alignzoo.plan.seconds import estimate_step_time, make_rate
from alignzoo.plan.sharding import SHARDINGS
from alignzoo.plan.survey import Survey
from alignzoo.plan.workload import Lengths, make_workload
from alignzoo.plugin.method import Method

Compose = Callable[..., DictConfig]

WORDS = ("model=tiny", "strategy=single", "strategy.device=cpu", "train.precision=fp32", "train.max_length=64")
TEACHER = ("teacher=tiny", "teacher.weights_seed=1")


def surveyed(*words: str) -> Survey:
    return plan([*WORDS, *words], Machine(None, None, 1.0), False)[0]


def test_the_teacher_is_held_in_every_phase() -> None:
    survey = surveyed("method=opd", *TEACHER)
    passes = survey.passes("none", 1)
    assert passes.teacher is not None
    size = passes.teacher.weight_bytes
    assert size == passes.skeleton.weight_bytes
    held = [phase.held for phase in list_phases(passes, SHARDINGS["single"])]
    assert [phase["teacher"] for phase in held] == [size] * len(held)
    assert [phase["teacher"] for phase in (p.held for p in list_phases(passes, SHARDINGS["ddp"], 2))] == [size] * len(
        held
    )


def test_its_pass_counts_in_memory_and_time() -> None:
    """The student alone: forward and backward, three passes; with a teacher as large, four, and two tiles of logits."""
    passes = surveyed("method=opd", *TEACHER).passes("none", 1)
    alone = surveyed("method=opd", *TEACHER).passes("none", 1)
    alone.teacher = None
    del alone.training  # the plan has computed it
    assert passes.training.flops == pytest.approx(4 / 3 * alone.training.flops, rel=0.1)
    assert passes.training.find_peak()[0] > alone.training.find_peak()[0]
    method = check_method("opd")
    times = [estimate_step_time(found, method, make_rate(1.0)).training for found in (passes, alone)]
    assert times[0] > 1.2 * times[1]


def check_method(name: str) -> type[Method]:
    from alignzoo.plugin.registry import registry

    return registry().method(name)


def test_a_teacher_that_is_only_measured_is_in_no_training_pass() -> None:
    with_one, without = (surveyed("method=sft", *words).passes("none", 1) for words in (TEACHER, ()))
    assert with_one.training.flops == without.training.flops
    assert with_one.teacher is not None
    assert without.teacher is None


def test_rows_with_completions_are_planned_with_the_longer_of_theirs_and_the_sampled(compose_config: Compose) -> None:
    cfg = check(compose_config("method=gkd", *WORDS, *TEACHER, "method.max_completion_length=10")).cfg
    sizes = [
        make_workload(cfg, check_method("gkd"), Lengths(trained=20, scored=0, prompt=20, rows=8, answered=n), 1).train
        for n in (25, 45)
    ]
    assert [size.tokens for size in sizes] == [30, 45]

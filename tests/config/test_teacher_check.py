"""A teacher is refused where it is missing, or cannot be, and named where it teaches nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.config.check import check

Compose = Callable[..., DictConfig]

TEACHER = "teacher=tiny"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method=opd",), ["method=opd learns from a teacher: add teacher=NAME", "teacher.path=FOLDER_OR_RUN"]),
        (("method=gkd",), ["method=gkd learns from a teacher"]),
        (("method=minillm",), ["method=minillm learns from a teacher"]),
        (("method=opd", TEACHER, "strategy=fsdp"), ["with strategy=fsdp", "Use strategy=ddp."]),
        (("method=dpo", TEACHER, "strategy=zero3"), ["with strategy=zero3", "Use strategy=ddp."]),
        (("method=reward", TEACHER), ["teacher=tiny: method=reward trains a reward model", "Leave it out."]),
        (("method=opd", TEACHER, "method.beta=1.5"), ["method.beta=1.5 must be from 0 to 1."]),
        (("method=gkd", TEACHER, "method.lmbda=-0.1"), ["method.lmbda=-0.1 must be from 0 to 1."]),
        (("method=gkd", TEACHER, "+method.use_vllm=true"), ["method.use_vllm: method=gkd samples by itself"]),
        (("method=minillm", TEACHER, "method.teacher_mix=1"), ["method.teacher_mix=1 must be", "below 1"]),
        (("method=minillm", TEACHER, "method.clip=0"), ["method.clip=0 must be above 0"]),
        (("method=minillm", TEACHER, "+method.temperature=0.5"), ["method.temperature=0.5", "sets it to 1.0"]),
        (("method=opd", TEACHER, "+method.teacher_model_name_or_path=x"), ["use teacher=local teacher.path="]),
        (("method=opd", TEACHER, "+teacher.pth=x"), ["teacher.pth: unknown key", "path"]),
        (("method=opd", TEACHER, "teacher.weights_seed=one"), ["teacher.weights_seed=one must be a whole number."]),
        (("method=opd", TEACHER, "teacher.dtype=half"), ["teacher.dtype=half must be one of"]),
    ],
)
def test_what_cannot_work_is_refused(words: tuple[str, ...], said: list[str], compose_config: Compose) -> None:
    with pytest.raises(UserError) as error:
        check(compose_config("model=tiny", *words))
    assert all(part in str(error.value) for part in said), error.value
    assert "\n" not in str(error.value)


def test_a_teacher_that_teaches_nothing_is_named(compose_config: Compose, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check(compose_config("model=tiny", "method=sft", TEACHER))
    assert "method=sft does not learn from teacher=tiny" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        check(compose_config("model=tiny", "method=gkd", TEACHER))
    assert "teacher" not in caplog.text

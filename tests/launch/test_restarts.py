"""What workers that are started again know of the ones before them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.config import check
from alignzoo.launch import restarts
from alignzoo.runs.resume import Refused, find_differences
from alignzoo.system.lock import InUse
from alignzoo.system.signals import EXIT_CODE, Preempted


def test_each_rank_of_a_machine_is_started_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = tmp_path / "job.yaml"
    assert [restarts.mark_started(job) for _ in range(3)] == [False, True, True]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not restarts.mark_started(job)


@pytest.mark.parametrize("kind", [UserError, InUse, Refused, Preempted])
def test_what_a_run_was_concluded_with_is_raised_again(kind: type[BaseException], tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    restarts.check_concluded(job)
    restarts.conclude(job, kind("why: so\nand more"), "why: so\nand more")
    with pytest.raises(kind) as again:
        restarts.check_concluded(job)
    assert type(again.value) is kind
    if isinstance(again.value, Preempted):
        assert (again.value.code, again.value.reason) == (EXIT_CODE, "why: so\nand more")
    else:
        assert str(again.value) == "why: so\nand more"


@pytest.mark.parametrize("patience", ["soon", "5"])
def test_patience_is_a_duration(compose_config: Callable[..., DictConfig], patience: str) -> None:
    with pytest.raises(UserError, match=r"strategy\.patience="):
        check.check(compose_config(f"strategy.patience={patience}"))


def test_a_machine_may_come_back_with_another_address() -> None:
    then, now = {"strategy.address": "10.0.0.1", "seed": 2}, {"strategy.restarts": 3, "seed": 3}
    assert find_differences(then, now) == [("seed", 2, 3)]

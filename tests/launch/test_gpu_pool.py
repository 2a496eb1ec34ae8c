"""Members of a sweep that run side by side on one machine, here of four GPUs: each is given GPUs of its own."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from inprocess import run
from omegaconf import DictConfig, OmegaConf

from alignzoo import UserError
from alignzoo.config import placement
from alignzoo.launch import gpu_pool, launch, ray_cluster

Composed = Callable[..., DictConfig]
BASIC = OmegaConf.create({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"})


def joblib(jobs: int) -> DictConfig:
    target = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
    return OmegaConf.create({"_target_": target, "n_jobs": jobs})


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(placement, "count_gpus", lambda: 4)
    monkeypatch.setattr(gpu_pool.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(gpu_pool, "WAIT", 0.01)
    monkeypatch.delenv(gpu_pool.VISIBLE, raising=False)


@pytest.mark.parametrize(
    ("wanted", "found", "others", "expected"),
    [("auto", 4, 2, 2), ("gpus", 8, 3, 2), ("auto", 4, 16, 1), (1, 4, 2, 1), (3, 4, 2, 3)],
)
def test_a_sweep_job_gets_a_gpu_for_each_process_or_an_equal_share(
    wanted: Any, found: int, others: int, expected: int
) -> None:
    assert gpu_pool.count_gpus_per_job(wanted, found, others) == expected


def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"strategy\.processes=5: there are 4 GPUs here\. Take fewer"):
        gpu_pool.count_gpus_per_job(5, 4, 2)


@pytest.mark.parametrize(("jobs", "expected"), [(2, 2), (1, 1), (-1, 16), (-2, 15), (-99, 1)])
def test_joblib_counts_from_all_cores(jobs: int, expected: int) -> None:
    assert gpu_pool.count_parallel_jobs(joblib(jobs), cores=16) == expected


def test_one_sweep_job_at_a_time_has_every_gpu(compose_config: Composed) -> None:
    for launcher in (BASIC, joblib(1)):
        with gpu_pool.reserve_gpus(compose_config(), launcher) as apart:
            assert not apart
            assert gpu_pool.VISIBLE not in os.environ


def test_a_sweep_job_on_the_cpu_takes_none(compose_config: Composed) -> None:
    with gpu_pool.reserve_gpus(compose_config("strategy.device=cpu"), joblib(2)) as apart:
        assert not apart


@pytest.mark.parametrize(("before", "first", "second"), [(None, "0,1", "2,3"), ("7,5,3,1", "7,5", "3,1")])
def test_sweep_jobs_side_by_side_see_their_own_gpus_alone(
    compose_config: Composed, monkeypatch: pytest.MonkeyPatch, before: str | None, first: str, second: str
) -> None:
    """Another process has the first two while this one comes."""
    names = before.split(",") if before else ["0", "1", "2", "3"]
    if before:
        monkeypatch.setenv(gpu_pool.VISIBLE, before)
    cfg = compose_config("strategy=ddp")
    with gpu_pool.reserve_gpus(cfg, joblib(2)) as apart:
        assert apart
        assert os.environ[gpu_pool.VISIBLE] == first
    assert os.environ.get(gpu_pool.VISIBLE) == before
    with gpu_pool.lock_gpus(names, 2), gpu_pool.reserve_gpus(cfg, joblib(2)):
        assert os.environ[gpu_pool.VISIBLE] == second


def test_a_mistake_is_answered_before_the_job_waits_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "reserve_gpus", lambda *_: pytest.fail("waits"))
    refused = run(tmp_path / "run", "model=tiny", "method.beta=-1")
    assert refused.code == 1
    assert "method.beta=-1 must be above 0" in refused.err


def test_no_gpu_is_two_sweep_jobs_at_once_and_all_get_theirs() -> None:
    """Twelve jobs of one, two or three processes want four GPUs."""
    held: Counter[str] = Counter()
    most: Counter[str] = Counter()
    guard = threading.Lock()

    def member(count: int) -> int:
        with gpu_pool.lock_gpus(["0", "1", "2", "3"], count) as mine:
            with guard:
                held.update(mine)
                most.update({name: max(0, held[name] - most[name]) for name in mine})
            time.sleep(0.01)
            with guard:
                held.subtract(mine)
        return len(mine)

    wanted = [1, 2, 3] * 4
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(member, wanted)) == wanted
    assert set(most.values()) == {1}


@pytest.mark.parametrize(
    ("processes", "device", "gpus", "expected"),
    [
        ("auto", "auto", [4, 8], {"num_cpus": 1, "num_gpus": 1}),
        ("gpus", "auto", [4, 8], {"num_cpus": 8, "num_gpus": 8}),
        (2, "cuda", [4], {"num_cpus": 2, "num_gpus": 2}),
        (2, "auto", [0, 0], {"num_cpus": 2}),
        (2, "cpu", [4], {"num_cpus": 2}),
        ("auto", "auto", [], {"num_cpus": 1}),
    ],
)
def test_a_sweep_job_on_ray_reserves_what_its_processes_need(
    processes: Any, device: str, gpus: list[int], expected: dict[str, int]
) -> None:
    assert ray_cluster.choose_resources(processes, device, gpus) == expected

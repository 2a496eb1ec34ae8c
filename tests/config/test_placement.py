"""How many processes a strategy starts, what each trains on at once, and which strategies are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from alignzoo import UserError
from alignzoo.config import placement
from alignzoo.config.check import check
from alignzoo.launch.strategy import check_strategy
from alignzoo.system import ranks
from alignzoo.train.processes import check_strategy_in_effect

Composed = Callable[..., DictConfig]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make torch count so many GPUs: the machines that run these tests have none."""

    def have(count: int) -> None:
        monkeypatch.setattr(placement, "count_gpus", lambda: count)

    return have


@pytest.mark.parametrize(("count", "expected"), [(0, 1), (1, 1), (8, 8)])
def test_auto_takes_every_gpu(compose_config: Composed, gpus: Any, count: int, expected: int) -> None:
    gpus(count)
    assert placement.count_processes(compose_config()) == expected


def test_auto_on_a_named_cpu_is_one_process(compose_config: Composed, gpus: Any) -> None:
    gpus(8)
    assert placement.count_processes(compose_config("strategy.device=cpu")) == 1


def test_machines_multiply(compose_config: Composed, gpus: Any) -> None:
    gpus(4)
    cfg = compose_config("strategy=fsdp", "strategy.nodes=3", "train.global_batch_size=12")
    assert (placement.place(cfg).per_machine, placement.place(cfg).processes) == (4, 12)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero2", "zero3", "multinode"])
def test_one_process_for_each_of_no_gpus_is_refused(compose_config: Composed, gpus: Any, name: str) -> None:
    gpus(0)
    with pytest.raises(UserError, match=rf"strategy={name} .*add strategy.processes=N .*strategy=single"):
        placement.count_processes(compose_config(f"strategy={name}"))


@pytest.mark.parametrize(
    ("total", "each", "count", "micro"),
    [(4, 4, 1, 4), (4, 4, 2, 2), (4, 4, 4, 1), (32, 4, 2, 4), (8, 3, 8, 1), (6, 4, 2, 3)],
)
def test_a_process_takes_its_share_of_the_batch(
    compose_config: Composed, total: int, each: int, count: int, micro: int
) -> None:
    words = [f"train.global_batch_size={total}", f"train.per_device_batch_size={each}", f"strategy.processes={count}"]
    assert placement.place(compose_config(*words)).micro_batch == micro


@pytest.mark.parametrize(("total", "each", "count"), [(4, 4, 3), (6, 4, 1), (2, 4, 4)])
def test_a_batch_that_cannot_be_shared_is_refused(compose_config: Composed, total: int, each: int, count: int) -> None:
    words = [f"train.global_batch_size={total}", f"train.per_device_batch_size={each}", f"strategy.processes={count}"]
    with pytest.raises(UserError, match=rf"train.global_batch_size={total} must be a multiple of .* x {count} process"):
        placement.place(compose_config(*words))


def test_a_started_world_counts_and_not_the_strategy(compose_config: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    assert placement.count_processes(compose_config("strategy=ddp")) == 2
    with ranks.work_alone():
        assert (ranks.rank(), ranks.world_size()) == (1, 1)
    assert ranks.world_size() == 2


@pytest.mark.parametrize("name", ["fsdp", "zero2", "zero3"])
def test_nothing_to_divide_between_is_refused(compose_config: Composed, name: str) -> None:
    cfg = compose_config(f"strategy={name}", "strategy.processes=1", "strategy.requires=null")
    with pytest.raises(UserError, match=rf"strategy={name} divides a model between processes, and there is one"):
        check_strategy(check(cfg))


def test_what_is_not_installed_is_named(compose_config: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # as if it could not be found
    with pytest.raises(UserError, match=r"strategy=zero2 needs deepspeed: pip install 'alignzoo\[deepspeed\]'"):
        check_strategy(check(compose_config("strategy=zero2", "strategy.processes=2")))


def test_ray_is_named_where_it_is_missing(compose_config: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it could not be found
    with pytest.raises(UserError, match=r"launcher=ray needs ray: pip install 'alignzoo\[ray\]'"):
        check_strategy(check(compose_config("launcher=ray", "strategy=ddp", "strategy.processes=2")))


def test_restarts_on_ray_are_refused(compose_config: Composed) -> None:
    cfg = compose_config("launcher=ray", "launcher.requires=null", "strategy.processes=2", "strategy.restarts=1")
    with pytest.raises(UserError, match=r"launcher=ray restarts no process: leave strategy\.restarts out"):
        check_strategy(check(cfg))


def test_machines_need_a_place_to_meet(compose_config: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    cfg = compose_config("strategy=multinode", "strategy.processes=1", "train.per_device_batch_size=2")
    with pytest.raises(UserError, match=r"add strategy\.rendezvous=HOST:PORT"):
        check_strategy(check(cfg))
    cfg.strategy.rendezvous = "first:29500"
    check_strategy(check(cfg))
    cfg.strategy.rendezvous, cfg.launcher.name = None, "ray"  # which brings them together by itself
    check_strategy(check(cfg))


@pytest.mark.parametrize(("name", "ran"), [("fsdp", "MULTI_CPU"), ("zero3", "MULTI_GPU")])
def test_a_strategy_that_was_quietly_exchanged_is_refused(compose_config: Composed, name: str, ran: str) -> None:
    """As accelerate does for FSDP on a CPU."""

    class Trainer:
        accelerator = OmegaConf.create({"distributed_type": {"value": ran}})
        args = OmegaConf.create({"device": {"type": "cpu"}})

    with pytest.raises(UserError, match=rf"strategy={name} needs GPUs: on the cpu take strategy=ddp"):
        check_strategy_in_effect(compose_config(f"strategy={name}"), Trainer())


def test_one_process_does_all_batches() -> None:
    assert ranks.share_work(str, [3, 1, 2]) == ["3", "1", "2"]
    assert ranks.share_work(str, []) == []
    assert ranks.broadcast("x") == "x"


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Make this process one of a Slurm step of so many tasks on so many machines."""

    def have(machines: int, tasks: int) -> None:
        for name, value in {"NODELIST": "n1", "NUM_NODES": machines, "NUM_TASKS": tasks}.items():
            monkeypatch.setenv(f"SLURM_STEP_{name}", str(value))

    return have


def test_under_slurm_the_machines_are_those_of_the_step(compose_config: Composed, step: Any) -> None:
    assert compose_config("strategy=multinode").strategy.nodes == 2
    step(3, 3)
    cfg = compose_config("strategy=multinode", "strategy.processes=1", "train.global_batch_size=3")
    assert placement.count_processes(cfg) == 3
    check_strategy(check(cfg))


@pytest.mark.parametrize(
    ("machines", "tasks", "words", "told"),
    [
        (2, 8, ["strategy=multinode"], "srun starts 8 tasks on 2 machines: add --ntasks-per-node=1"),
        (4, 4, ["strategy=ddp", "strategy.nodes=2"], "strategy.nodes=2, and srun starts on 4: take srun --nodes=2"),
    ],
)
def test_a_step_that_starts_something_else_is_refused(
    compose_config: Composed, step: Any, machines: int, tasks: int, words: list[str], told: str
) -> None:
    step(machines, tasks)
    with pytest.raises(UserError, match=told):
        check_strategy(check(compose_config(*words, "strategy.processes=1")))


def test_a_batch_script_without_srun_is_refused(compose_config: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs on the first machine alone."""
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    with pytest.raises(UserError, match="in a Slurm job, start it with srun"):
        check_strategy(check(compose_config("strategy=multinode", "strategy.processes=1")))

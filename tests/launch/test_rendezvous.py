"""Where the machines of a cluster's job meet, by what each scheduler says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.launch import rendezvous
from alignzoo.launch.strategy import check_strategy

Composed = Callable[..., DictConfig]

KUBEFLOW = {"PET_MASTER_ADDR": "job-node-0-0.job", "PET_MASTER_PORT": "29400", "PET_NODE_RANK": "{rank}"}
SKYPILOT = {"SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.4\n", "SKYPILOT_NODE_RANK": "{rank}"}
SEVERAL = ("strategy=multinode", "strategy.processes=1", "train.per_device_batch_size=2")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_NODELIST", *KUBEFLOW, *SKYPILOT):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("variables", "place"), [(KUBEFLOW, "job-node-0-0.job:29400"), (SKYPILOT, "10.0.0.5:29400")])
def test_a_scheduler_names_the_first_machine(
    compose_config: Composed, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], place: str, rank: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(rank=rank))
    cfg = compose_config(*SEVERAL)
    check_strategy(check(cfg))
    found: dict[str, Any] = rendezvous.read_rendezvous()
    assert (found["rdzv_endpoint"], found["rdzv_configs"]) == (place, {"is_host": rank == 0})


def test_nobody_names_one(compose_config: Composed) -> None:
    assert not rendezvous.is_in_environment()
    with pytest.raises(UserError, match=r"add strategy\.rendezvous=HOST:PORT"):
        check_strategy(check(compose_config(*SEVERAL)))

"""Two processes with different rows, packed into different bins: the gradients are those of the dense passes."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from speed_models import rows, settings, tiny
from torch import Tensor, distributed, multiprocessing
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from trl.trainer.utils import add_fused_lm_head

from alignzoo.speed.backbone import share_prefixes

SHARES = ([0, 1], [2, 3, 4])  #: the rows of each process


def mean_log_prob(model: Any, share: list[int]) -> Tensor:
    inputs = {name: values[share] for name, values in rows().items()}
    total: Tensor = model(**inputs, use_cache=False, fused_lm_head=True).log_probs.sum()
    return total / 100


def fused() -> Any:
    model = tiny("llama")
    add_fused_lm_head(model)
    return model


def train(rank: int, kind: str, port: int, folder: str) -> None:
    """Save the gradient that this process is left with."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    model: Any = fused()
    share_prefixes(settings(budget=60), model)  # a bin for each tree, unless the weights are sharded
    if kind == "ddp":
        wrapped: Any = DistributedDataParallel(model)
    else:
        mesh = torch.distributed.init_device_mesh("cpu", (2,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        wrapped = fully_shard(model, mesh=mesh)
    mean_log_prob(wrapped, SHARES[rank]).backward()
    slopes = [weight.grad for weight in model.parameters()]
    whole = [slope.full_tensor() if isinstance(slope, DTensor) else slope for slope in slopes]
    torch.save(torch.cat([slope.flatten() for slope in whole]), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_gradients_over_two_processes_are_the_dense_ones(kind: str, tmp_path: Path) -> None:
    dense = fused()
    for share in SHARES:
        (mean_log_prob(dense, share) / 2).backward()
    expected = torch.cat([weight.grad.flatten() for weight in dense.parameters()])

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train, (kind, port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert (found - expected).norm() / expected.norm() < 1e-5

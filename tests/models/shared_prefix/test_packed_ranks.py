"""Two processes with different rows, packed into different bins: the gradients are those of the dense passes."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from speed_models import rows, settings, tiny
from torch import Tensor, distributed, multiprocessing
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from trl.trainer.utils import add_fused_lm_head

from alignzoo.models.shared_prefix.patch import share_prefixes

SHARES = ([0, 1], [2, 3, 4])  #: the rows of each process: one tree, and two
BUDGET = 60  #: tokens, so that each tree has a bin of its own unless the weights are sharded

KINDS = ("ddp", "fsdp2")


def mean_log_prob(model: Any, share: list[int]) -> Tensor:
    inputs = {name: values[share] for name, values in rows().items()}
    total: Tensor = model(**inputs, use_cache=False, fused_lm_head=True).log_probs.sum()
    return total / 100


def fused() -> Any:
    model = tiny("llama")
    add_fused_lm_head(model)
    return model


def wrapped(model: Any, kind: str) -> Any:
    if kind == "ddp":
        return DistributedDataParallel(model)
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def gradient(model: Any) -> Tensor:
    slopes = [weight.grad for weight in model.parameters()]
    return torch.cat([(slope.full_tensor() if isinstance(slope, DTensor) else slope).flatten() for slope in slopes])


def train(rank: int, port: int, folder: str) -> None:
    """Save the gradients that this process is left with."""
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    for kind in KINDS:
        model = fused()
        share_prefixes(settings(budget=BUDGET), model)
        whole = wrapped(model, kind)  # a name of its own: DDP adds up gradients as long as it lives
        mean_log_prob(whole, SHARES[rank]).backward()
        torch.save(gradient(model), Path(folder) / f"{kind}{rank}.pt")
    distributed.destroy_process_group()


def test_gradients_over_two_processes_are_the_dense_ones(tmp_path: Path) -> None:
    dense = fused()
    for share in SHARES:
        (mean_log_prob(dense, share) / 2).backward()
    expected = gradient(dense)

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train, (port, str(tmp_path)), nprocs=2)
    for kind in KINDS:
        for rank in range(2):
            found = torch.load(tmp_path / f"{kind}{rank}.pt")
            assert (found - expected).norm() / expected.norm() < 1e-5, (kind, rank)

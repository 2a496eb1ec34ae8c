"""Tells which of the processes that train one run this is, and passes values between them.

A launcher names them by the variables RANK, LOCAL_RANK and WORLD_SIZE; without these there is one process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from alignzoo.system.environment import restore_environment

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def rank() -> int:
    """Return this process's number over all machines; 0 is the main one, which prints and writes the run folder."""
    return int(os.environ.get("RANK", 0))


def local_rank() -> int:
    """Return its number on this machine, which is also that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """Return how many processes there are."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_launched() -> bool:
    """Tell whether a launcher (ours, torchrun, Ray Train, Kubeflow) has started this process as one of several."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def join_process_group(device: str, patience: float) -> None:
    """Make the process group, NCCL between GPUs and gloo between CPUs; nothing where there is one process.

    ``patience``: seconds that a process waits for the others before contact counts as lost.
    """
    if world_size() == 1:
        return
    import torch

    if device == "cuda":
        torch.cuda.set_device(local_rank())
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group(choose_backend(device), timeout=timedelta(seconds=patience))


def choose_backend(device: str) -> str:
    """Return what carries the processes' messages, in torch's words."""
    return "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"


@contextmanager
def work_alone() -> Iterator[None]:
    """Let the main process work by itself: inside, :func:`share_work` and :func:`broadcast` ask no other."""
    with restore_environment(WORLD_SIZE=None):
        yield


def on_main(write: Callable[P, None]) -> Callable[P, None]:
    """Make ``write`` do nothing on all processes but the main one."""

    @functools.wraps(write)
    def only_main(*args: P.args, **kwargs: P.kwargs) -> None:
        if rank() == 0:
            write(*args, **kwargs)

    return only_main


@contextmanager
def go_first(mine: bool) -> Iterator[None]:
    """Let the processes whose ``mine`` is true go first; the others then find what they made."""
    if not mine:
        wait()
    yield
    if mine:
        wait()


def save_here(model: Any, folder: Path) -> None:
    """Save ``model`` in ``folder`` on the process that calls it, such as the first of a machine with its own cache.

    ``PreTrainedModel.save_pretrained`` by itself writes on rank 0 alone, and says nothing on the others.
    """
    # patch: transformers PreTrainedModel.should_save_on_this_rank
    model.should_save_on_this_rank = lambda is_main_process: True
    model.save_pretrained(folder)


def broadcast(value: T) -> T:
    """Return the main process's ``value`` on every process."""
    if world_size() == 1:
        return value
    import torch

    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def share_work(work: Callable[[T], R], batches: Sequence[T]) -> list[R]:
    """Return ``work(batch)`` for each batch, in order; the processes take turns, and each gets all results."""
    done = {i: work(batches[i]) for i in range(rank(), len(batches), world_size())}
    if world_size() == 1:
        return list(done.values())
    import torch

    parts: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(parts, done)
    everything = {i: result for each in parts for i, result in each.items()}
    return [everything[i] for i in range(len(batches))]


def wait() -> None:
    """Return once every process is here."""
    if world_size() > 1:
        import torch

        torch.distributed.barrier()

"""Joins a Ray cluster for sweeps and runs, or starts one on this machine that ends with them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from alignzoo.launch import torchrun
from alignzoo.system.errors import UserError, print_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Prefixes of variables that processes on other machines need. Keys and tokens stay here: Ray shows its variables.
PASSED_ON = ("ALIGNZOO_", "HF_", "WANDB_", "TOKENIZERS_", "PYTHONPATH", "OMP_NUM_THREADS")
SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")

STORE = 80 * 2**20  #: bytes of memory for objects that Ray passes on, near the minimum: ours are small

PATIENCE = 5.0  #: seconds for the head of a cluster to answer


@contextmanager
def use_cluster(address: str | None, processes: int) -> Iterator[None]:
    """Join the cluster at ``address`` or ``RAY_ADDRESS``, or start one for ``processes`` that ends with the block.

    The output of its processes is not shown here.

    Raises:
        UserError: there is no cluster at the address.
    """
    with torchrun.restore_handlers():  # a run handles signals itself
        connect(address, processes, {"log_to_driver": False})
    import ray

    try:
        yield
    finally:
        ray.shutdown()


def connect(address: str | None, processes: int, more: dict[str, Any] | None = None) -> None:
    """Connect until the program ends, as :func:`use_cluster` does; ``more`` are arguments for ``ray.init``."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no run tells anyone about itself
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about a future Ray
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # `ray start` asks for it; whoever joins must set this
    if address:
        _check_address(address)
    import ray

    own = {"num_cpus": max(os.cpu_count() or 1, processes), "object_store_memory": STORE, "include_dashboard": False}
    settings = {
        "address": address or "local",
        "logging_level": "ERROR",
        "runtime_env": {"env_vars": _select_variables(), "worker_process_setup_hook": _make_setup_hook(os.getcwd())},
        **({} if address else own),
        **(more or {}),
    }
    try:
        ray.init(**settings)
    except ConnectionError as error:
        raise UserError(f"the Ray cluster at {address} does not answer: {str(error).splitlines()[0]}") from None


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens: Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():  # such as auto
        return
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except OSError as error:
        raise UserError(f"there is no Ray cluster at {address} ({error.strerror or error}).") from None


def _has_token() -> bool:
    """Tell whether there is a Ray token where Ray looks for it."""
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    return "RAY_AUTH_TOKEN" in os.environ or file.exists()


def _make_setup_hook(folder: str) -> Callable[[], None]:
    """Return a function that makes the cluster's processes work in ``folder``, so that relative paths hold there."""

    def enter() -> None:
        os.chdir(folder)

    return enter


def _select_variables() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(PASSED_ON) and not any(word in name for word in SECRET)
    }


def prepare_sweep(config: DictConfig) -> list[str]:
    """Connect Hydra's Ray launcher, and let each sweep job reserve what its processes need.

    What the user reserves with ``+hydra.launcher.ray.remote.num_gpus=N`` stays. Returns a list to which the jobs
    are added that end without a result.

    Raises:
        UserError: there is no cluster, or the jobs would start their processes on it too.
    """
    if config.launcher.name == "ray":
        raise UserError(
            "hydra/launcher=ray places a sweep's jobs and launcher=ray a run's processes: leave one of them out."
        )

    settings: Any = OmegaConf.to_container(config.hydra.launcher.ray, resolve=True)
    own = {key: value for key, value in settings["init"].items() if key != "address" and value is not None}
    wanted = config.strategy.processes
    connect(settings["init"].get("address"), wanted if isinstance(wanted, int) else 1, own)
    import ray  # which reads RAY_AUTH_MODE when it is imported

    found = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
    needed = choose_resources(wanted, config.strategy.device, found)
    with open_dict(config.hydra.launcher):
        config.hydra.launcher.ray.remote = {**needed, "max_retries": 0, **settings["remote"]}
    return _wait_for_all()


def choose_resources(processes: int | str, device: str, gpus: Sequence[int]) -> dict[str, int]:
    """Return what a sweep job reserves, as ``ray.remote`` takes it; ``gpus``: how many each machine of the cluster has.

    ``processes=auto`` is one GPU, so that many jobs run at a time; ``processes=gpus`` is all of a machine.
    """
    most = max(gpus, default=0) if device in ("auto", "cuda") else 0
    count = processes if isinstance(processes, int) else most if processes == "gpus" else 1
    return {"num_cpus": max(1, count), **({"num_gpus": count} if most else {})}


def _wait_for_all() -> list[str]:
    """Let a sweep wait for all of its jobs: the launcher would stop at the first whose process died."""
    from hydra_plugins.hydra_ray_launcher import _core

    lost: list[str] = []
    # patch: hydra_ray_launcher _core.ray
    _core.ray = SimpleNamespace(get=partial(_get_result, lost))
    return lost


def _get_result(lost: list[str], job: Any) -> Any:
    import ray
    from hydra.core.utils import JobReturn, JobStatus

    try:
        return ray.get(job)
    except ray.exceptions.RayError as error:
        lost.append(str(error).splitlines()[0].partition(". ")[0])
        print_error(f"a sweep job ended without a result: {lost[-1]}")
        return JobReturn(status=JobStatus.COMPLETED, _return_value=None)

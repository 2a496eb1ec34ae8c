"""A Ray cluster for sweeps and runs: a running one that they join, or one on this machine that ends with them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from alignzoo.launch import torchrun
from alignzoo.system.errors import UserError, print_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: What processes on other machines must see as this one does. Keys and tokens stay here: Ray shows its variables.
PASSED_ON = ("ALIGNZOO_", "HF_", "WANDB_", "TOKENIZERS_", "PYTHONPATH", "OMP_NUM_THREADS")
SECRET = ("TOKEN", "KEY", "SECRET", "PASSWORD")

STORE = 80 * 2**20  #: bytes of memory for objects that Ray passes on, near its least: ours are configurations

PATIENCE = 5.0  #: seconds for the head of a cluster to answer

lost: list[str] = []  #: why members of a sweep ended without a result


@contextmanager
def use_cluster(address: str | None, processes: int) -> Iterator[None]:
    """Join the cluster at ``address`` or ``RAY_ADDRESS``, or start one here that holds ``processes`` for as long.

    What its processes print stays with them.

    Raises:
        UserError: there is no cluster at the address.
    """
    with torchrun.restore_handlers():  # a run answers signals in its own way
        connect(address, processes, {"log_to_driver": False})
    import ray

    try:
        yield
    finally:
        ray.shutdown()


def connect(address: str | None, processes: int, more: dict[str, Any] | None = None) -> None:
    """Do the first half of :func:`connected`; ``more`` are arguments for ``ray.init``. Ray ends it with the program."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no run tells anyone about itself
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a notice of what Ray will do one day
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # `ray start` asks for it; who joins must say that it has one
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
    """Refuse an address where nothing listens: Ray would look for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdigit():  # such as auto
        return
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except OSError as error:
        raise UserError(f"there is no Ray cluster at {address} ({error.strerror or error}).") from None


def _has_token() -> bool:
    """Tell whether there is one of Ray's tokens, in the places where Ray looks."""
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    return "RAY_AUTH_TOKEN" in os.environ or file.exists()


def _make_setup_hook(folder: str) -> Callable[[], None]:
    """Return what lets the cluster's processes work in ``folder``, so that relative paths are what they are here."""

    def enter() -> None:
        os.chdir(folder)

    return enter


def _select_variables() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(PASSED_ON) and not any(word in name for word in SECRET)
    }


def prepare_sweep(config: DictConfig) -> None:
    """Connect Hydra's Ray launcher, and let each member of the sweep reserve what its processes need.

    What the user reserves with ``+hydra.launcher.ray.remote.num_gpus=N`` stays.

    Raises:
        UserError: there is no cluster, or the members would start their processes on it too.
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
    _wait_for_all()


def choose_resources(processes: int | str, device: str, gpus: Sequence[int]) -> dict[str, int]:
    """Return what a member reserves, as ``ray.remote`` takes it; ``gpus``: how many each machine of the cluster has.

    ``processes=auto`` is one GPU, so that most members run at a time; ``gpus`` is all of a machine.
    """
    most = max(gpus, default=0) if device in ("auto", "cuda") else 0
    count = processes if isinstance(processes, int) else most if processes == "gpus" else 1
    return {"num_cpus": max(1, count), **({"num_gpus": count} if most else {})}


def _wait_for_all() -> None:
    """Let a sweep wait for all of its members: the launcher's wait would end with the first whose process died."""
    from hydra_plugins.hydra_ray_launcher import _core

    lost.clear()
    # patch: hydra_ray_launcher _core.ray
    _core.ray = SimpleNamespace(get=_result)


def _result(member: Any) -> Any:
    import ray
    from hydra.core.utils import JobReturn, JobStatus

    try:
        return ray.get(member)
    except ray.exceptions.RayError as error:
        lost.append(str(error).splitlines()[0].partition(". ")[0])
        print_error(f"a sweep job ended without a result: {lost[-1]}")
        return JobReturn(status=JobStatus.COMPLETED, _return_value=None)

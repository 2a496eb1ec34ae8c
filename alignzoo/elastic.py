"""Starts a run's processes through torch's elastic launcher, and ends them all when one fails or a signal comes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo import strategies
from alignzoo.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch.distributed.launcher.api import LaunchConfig

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class WorkerFailed(RuntimeError):
    """A process of a run failed; the text, two lines, is its error and where its log is."""


def start(cfg: DictConfig, folder: Path, group: str | None) -> None:
    """Run ``alignzoo.worker`` once for each process of ``cfg.strategy`` on this machine, and wait for them.

    ``folder`` holds the run's config; ``group`` is the sweep that it belongs to.

    Raises:
        UserError: a process failed for a reason that is the user's to mend.
        WorkerFailed: it failed for another.
        KeyboardInterrupt, SystemExit: a signal ended them.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    _use_address(cfg.strategy.address)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // strategies.per_machine(cfg))))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it says is said below, in short
    try:
        with _handlers_kept(), tempfile.TemporaryDirectory() as scratch:
            words = ("-m", "alignzoo.worker", str(folder), group or "")
            elastic_launch(_config(cfg, scratch), sys.executable)(*words)
    except SignalException as error:  # an Exception: Hydra would take it for one failed job and start the next
        if error.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + int(error.sigval)) from None
    except ChildFailedError as error:
        raise _failure(error, folder) from None


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Take back the signal handlers that the launcher sets."""
    main = threading.current_thread() is threading.main_thread()
    known = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def _config(cfg: DictConfig, scratch: str) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=cfg.strategy.nodes,  # never fewer: a smaller world would change the batch
        max_nodes=cfg.strategy.nodes,
        nproc_per_node=strategies.per_machine(cfg),
        rdzv_backend="c10d",
        max_restarts=cfg.strategy.restarts,
        monitor_interval=0.2,
        shutdown_timeout=cfg.strategy.grace,
        logs_specs=DefaultLogsSpecs(log_dir=scratch),
        local_addr=cfg.strategy.address,
        **_meeting(cfg),
    )


def _use_address(address: str | None) -> None:
    """Let gloo and NCCL talk over the network interface that has ``address``: each guesses one by itself.

    Raises:
        UserError: no interface has it.
    """
    if not address:
        return
    import psutil

    interfaces = {entry.address: name for name, entries in psutil.net_if_addrs().items() for entry in entries}
    if address not in interfaces:
        raise UserError(f"strategy.address={address}: this machine has {', '.join(sorted(interfaces))}.")
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", interfaces[address])


def _meeting(cfg: DictConfig) -> dict[str, Any]:
    """Return where the machines meet: this one's own port, the Slurm job's first machine, or where the user says."""
    if cfg.strategy.nodes == 1:
        return {"rdzv_endpoint": "localhost:0", "run_id": f"alignzoo-{os.getpid()}-{os.urandom(4).hex()}"}
    if not cfg.strategy.rendezvous:
        return _slurm()
    host = cfg.strategy.rendezvous.partition(":")[0]
    known = {"is_host": host == cfg.strategy.address} if cfg.strategy.address else {}
    return {"rdzv_endpoint": cfg.strategy.rendezvous, "run_id": "alignzoo", "rdzv_configs": known}


def _slurm() -> dict[str, Any]:
    job, again = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_RESTART_COUNT", "0")
    names = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
    first = subprocess.run(names, capture_output=True, text=True, check=True).stdout.split()[0]
    return {
        "rdzv_endpoint": f"{first}:{20_000 + int(job) % 20_000}",
        "run_id": f"slurm-{job}-{again}",
        "rdzv_configs": {"is_host": os.environ["SLURM_NODEID"] == "0"},
    }


def _failure(error: Any, folder: Path) -> Exception:
    """Return the first failing rank's own error, and where its log is."""
    rank, failure = error.get_first_failure()
    message = failure.message.get("message", "") if isinstance(failure.message, dict) else str(failure.message)
    kind, _, text = message.partition(": ")
    if kind == UserError.__name__:
        return UserError(text)
    reason = message.splitlines()[0] if failure.error_file_data else failure.signal_name() or f"exit {failure.exitcode}"
    return WorkerFailed(f"rank {rank} failed: {reason}\nIts log: {folder / 'logs' / f'rank{rank}.log'}")

"""Starts a run's processes through torch's elastic launcher, and ends all when one fails or a signal arrives."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from alignzoo.config.secrets import keep_environment
from alignzoo.launch import rendezvous, slurm
from alignzoo.runs.resume import Refused
from alignzoo.system import signals
from alignzoo.system.errors import UserError
from alignzoo.system.lock import InUse

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch.distributed.launcher.api import LaunchConfig

    from alignzoo.config.checked import Checked
    from alignzoo.launch.attempt import Attempt

#: Passed on to the workers, which save before they end if it is one of ``signals.SIGNALS``.
SIGNALS = (*signals.SIGNALS, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


USERS = {kind.__name__: kind for kind in (UserError, InUse, Refused)}  #: errors that the user can correct


class WorkerFailed(RuntimeError):
    """A process of a run failed; the text, two lines, is its error and where its log is."""


def start(checked: Checked, folder: Path, attempt: Attempt) -> None:
    """Run ``alignzoo.launch.worker`` once for each of the run's processes on this machine, and wait for them.

    ``folder`` is the run's.

    Raises:
        UserError: a process failed for a reason that the user can correct.
        WorkerFailed: it failed for another.
        Preempted: the run was preempted.
        KeyboardInterrupt, SystemExit: another signal ended them.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    cfg, count = checked.cfg, checked.placement.per_machine
    _use_address(cfg.strategy.address)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # reported below, in short
    if cfg.strategy.restarts:  # else torch keeps one store, with addresses of dead processes
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with restore_handlers(), tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch) / "job.yaml"
        content = {**describe_job(cfg, folder, attempt), "parent": os.getpid()}
        job.write_text(OmegaConf.to_yaml(OmegaConf.create(content)), encoding="utf-8")
        try:
            _run_workers(cfg, count, job)
        except SignalException as error:  # an Exception: Hydra would take it for one failed job and start the next
            raise _make_signal_error(error.sigval, job) from None
        except ChildFailedError as error:
            raise _find_failure(error, folder, job) from None


def describe_job(cfg: DictConfig, folder: Path, attempt: Attempt) -> dict[str, Any]:
    """Return the argument of :func:`alignzoo.launch.worker.run`."""
    config = keep_environment(cfg)
    sweep = {"group": attempt.sweep, "selects": attempt.selects}
    return {"folder": str(folder), "overrides": list(attempt.words), **sweep, "config": config}


def _run_workers(cfg: DictConfig, count: int, job: Path) -> None:
    """Run the workers; when machines lose contact, wait for all of them and start again, while restarts are left.

    Raises:
        WorkerFailed: they lost contact, and no restart is left.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import elastic_launch

    for left in reversed(range(cfg.strategy.restarts + 1)):
        try:
            config = _make_launch_config(cfg, count, str(job.parent))
            elastic_launch(config, sys.executable)("-m", "alignzoo.launch.worker", str(job))
            return
        except (RendezvousError, DistError) as error:
            problem = f"lost contact between machines: {str(error).splitlines()[0]}"
            if not left:
                raise WorkerFailed(f"{problem}\nStart the command on each machine again, with resume=auto.") from None
        print(f"alignzoo: {problem}; {left} more attempt(s)", file=sys.stderr, flush=True)


@contextmanager
def restore_handlers() -> Iterator[None]:
    """Restore the signal handlers, which the launcher replaces."""
    main = threading.current_thread() is threading.main_thread()
    known = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        for number, handler in known.items():
            signal.signal(number, handler)


def _make_launch_config(cfg: DictConfig, count: int, scratch: str) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    heard: dict[str, Any] = {"signals_to_handle": ",".join(number.name for number in SIGNALS)}
    return LaunchConfig(
        min_nodes=cfg.strategy.nodes,  # never fewer: a smaller world would change the batch
        max_nodes=cfg.strategy.nodes,
        nproc_per_node=count,
        rdzv_backend="c10d",
        max_restarts=cfg.strategy.restarts,
        monitor_interval=0.2,
        shutdown_timeout=cfg.strategy.grace,
        logs_specs=DefaultLogsSpecs(log_dir=scratch),
        local_addr=cfg.strategy.address,
        **(heard if hasattr(LaunchConfig, "signals_to_handle") else {}),  # not in torch 2.8
        **_choose_rendezvous(cfg),
    )


def _use_address(address: str | None) -> None:
    """Make gloo and NCCL use the network interface that has ``address``: each would guess one by itself.

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


def _choose_rendezvous(cfg: DictConfig) -> dict[str, Any]:
    """Return the rendezvous: a port of this machine, the user's address, or a scheduler's first machine."""
    if cfg.strategy.nodes == 1:
        return {"rdzv_endpoint": "localhost:0", "run_id": f"alignzoo-{os.getpid()}-{os.urandom(4).hex()}"}
    if not cfg.strategy.rendezvous:
        return rendezvous.read_rendezvous() if rendezvous.is_in_environment() else slurm.make_rendezvous()
    host = cfg.strategy.rendezvous.partition(":")[0]
    known = {"is_host": host == cfg.strategy.address} if cfg.strategy.address else {}
    return {"rdzv_endpoint": cfg.strategy.rendezvous, "run_id": "alignzoo", "rdzv_configs": known}


def reason_file(job: Path) -> Path:
    """Return the file in which a worker writes why it was preempted."""
    return job.with_suffix(".stopped")


def _make_signal_error(number: signal.Signals, job: Path) -> BaseException:
    """Return the exception with which a signal to this process ends the program."""
    if number in signals.SIGNALS:
        return _make_preempted(job, f"{number.name} outside of the training")
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + int(number))


def _make_preempted(job: Path, otherwise: str) -> signals.Preempted:
    return signals.Preempted(reason_file(job).read_text(encoding="utf-8") if reason_file(job).exists() else otherwise)


def _find_failure(error: Any, folder: Path, job: Path) -> BaseException:
    """Return the first failing rank's own error, and where its log is."""
    rank, failure = error.get_first_failure()
    message = failure.message.get("message", "") if isinstance(failure.message, dict) else str(failure.message)
    kind, _, text = message.partition(": ")
    if failure.exitcode == signals.EXIT_CODE:
        return _make_preempted(job, "one of its processes")
    if kind in USERS:
        return USERS[kind](text)
    why = message.splitlines()[0] if failure.error_file_data else failure.signal_name() or f"exit {failure.exitcode}"
    return make_failure(rank, why, folder)


def make_failure(rank: int, why: str, folder: Path) -> WorkerFailed:
    """Return the error of a run whose process ``rank`` failed first."""
    return WorkerFailed(f"rank {rank} failed: {why}\nIts log: {folder / 'logs' / f'rank{rank}.log'}")

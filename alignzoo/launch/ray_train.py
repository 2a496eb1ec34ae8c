"""Starts a run's processes through Ray Train, which places them on a cluster and makes their process group."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from alignzoo.config.secrets import list_variables
from alignzoo.launch import torchrun
from alignzoo.launch.ray_cluster import use_cluster
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.system.signals import Preempted

if TYPE_CHECKING:
    from alignzoo.config.checked import Checked
    from alignzoo.launch.attempt import Attempt

log = logging.getLogger(__name__)

LOOK = 0.5  #: seconds between reads of the main process's output
SHOWN = "shown"  #: file in Ray's folder of a run: the output of its main process
STOPPED = "stopped"  #: file there too: why the run was preempted


def start(checked: Checked, folder: Path, attempt: Attempt) -> None:
    """Run :func:`join` in each of the run's processes on the cluster, and wait for them.

    Takes and raises what :func:`alignzoo.launch.torchrun.start` does; all machines of the cluster see ``folder``.
    """
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # paths of the configuration stay what they were
    os.environ["RAY_TRAIN_ENABLE_PRINT_PATCH"] = "0"  # it prints everything twice
    cfg, count = checked.cfg, checked.placement.processes
    scratch = folder.absolute() / ".ray"
    own = {"scratch": str(scratch), "environment": {name: os.environ[name] for name in list_variables(cfg)}}
    job = {**torchrun.describe_job(cfg, folder.absolute(), attempt), **own}
    with use_cluster(cfg.launcher.address, count * cfg.launcher.cpus), _make_scratch(scratch):
        from ray.train.v2.api.exceptions import TrainingFailedError

        try:
            with torchrun.restore_handlers(), _print_file(scratch / SHOWN):
                _make_trainer(checked, job, scratch).fit()
        except Preempted:
            raise
        except SystemExit:  # Ray's answer to Ctrl-C, with exit code 0
            raise KeyboardInterrupt from None
        except TrainingFailedError as error:
            raise _find_failure(error, folder) from None
        if (scratch / STOPPED).exists():
            raise Preempted((scratch / STOPPED).read_text(encoding="utf-8"))


def _make_trainer(checked: Checked, job: dict[str, Any], scratch: Path) -> Any:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig

    cfg, count = checked.cfg, checked.placement.processes
    gpus = cfg.strategy.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= count
    return TorchTrainer(
        join,
        train_loop_config=job,
        torch_config=TorchConfig(
            ranks.choose_backend("cuda" if gpus else "cpu"),
            timeout_s=int(checked.patience),
        ),
        scaling_config=ScalingConfig(
            num_workers=count,
            use_gpu=gpus,
            resources_per_worker={"CPU": cfg.launcher.cpus, **({"GPU": 1} if gpus else {})},
            placement_strategy="PACK" if cfg.strategy.nodes == 1 else "SPREAD",
        ),
        run_config=RunConfig(
            name="run",
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=0),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def join(job: dict[str, Any]) -> None:
    """Train as one of the run's processes: Ray has named them as torchrun does, and made their process group."""
    from alignzoo.launch import worker

    os.environ.update(job["environment"])  # to which the configuration refers
    if ranks.rank() == 0:
        _redirect_output(Path(job["scratch"]) / SHOWN)
    try:
        worker.run(job)
    except Preempted as preempted:
        if ranks.rank() == 0:
            (Path(job["scratch"]) / STOPPED).write_text(preempted.reason, encoding="utf-8")
    except UserError:
        raise
    except Exception as error:
        log.exception("rank %d", ranks.rank())
        raise torchrun.WorkerFailed(f"{type(error).__name__}: {error}") from None  # which Ray can pickle


def _redirect_output(file: Path) -> None:
    """Send this process's output to ``file``, which the starting process prints; Ray would add words of its own."""
    with file.open("a", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


@contextmanager
def _print_file(file: Path) -> Iterator[None]:
    """Print what is written to ``file`` until the block ends."""
    file.touch()
    over = threading.Event()
    with file.open(encoding="utf-8", errors="replace") as stream:
        printing = threading.Thread(target=_print_until, args=(over, stream), daemon=True)
        printing.start()
        try:
            yield
        finally:
            over.set()
            printing.join()


def _print_until(over: threading.Event, stream: TextIO) -> None:
    last = False
    while not last:
        last = over.wait(LOOK)
        print(stream.read(), end="", flush=True)


@contextmanager
def _make_scratch(scratch: Path) -> Iterator[None]:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _find_failure(error: Exception, folder: Path) -> Exception:
    """Return the first failing rank's own error, and where its log is."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if not failures:
        return error
    explained = {rank: isinstance(failure, UserError | torchrun.WorkerFailed) for rank, failure in failures.items()}
    rank = min(failures, key=lambda rank: (explained[rank], rank))  # a process that died makes the others fail
    if isinstance(failures[rank], UserError):
        return failures[rank]
    return torchrun.make_failure(rank, str(failures[rank]) if explained[rank] else "its process died", folder)

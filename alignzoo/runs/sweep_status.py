"""Reads the jobs of a sweep: what each was asked for, and how far it is."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml
from hydra.errors import HydraException

from alignzoo.config.secrets import mask
from alignzoo.runs import checkpoint
from alignzoo.runs.contents import is_number
from alignzoo.runs.folder import GENERATED, Run
from alignzoo.system.errors import UserError
from alignzoo.system.files import write_atomically
from alignzoo.system.lock import is_locked, is_locked_elsewhere
from alignzoo.system.parsing import parse_file

PLAN = "multirun.yaml"  #: Hydra's account of a sweep
BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"

#: Seconds without a write after which a run of another machine counts as stopped: more than a step takes, or measuring.
QUIET = 1_800


class State(StrEnum):
    """How far a sweep job is."""

    DONE = "done"
    RUNNING = "running"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"
    PENDING = "pending"


@dataclass(frozen=True)
class SweepJob:
    """One run of a sweep."""

    number: int
    words: str
    """The values that this job has and others have not."""

    state: State
    detail: str
    """Why it failed, or where it stopped."""

    folder: Path | None
    """None while it is pending."""


@dataclass(frozen=True)
class PlannedJob:
    """One run of a sweep, as its command has it."""

    number: int
    words: str
    folder: Path | None
    """None while it is pending."""


def read_command(folder: Path) -> list[str]:
    """Return the command line that made the sweep in ``folder``, without its folder.

    Raises:
        UserError: it is not a sweep's folder, or its jobs are not fixed beforehand.
    """
    if not (folder / PLAN).is_file():
        raise UserError(f"{folder} is not a sweep's folder: there is no {PLAN} in it.")
    sweeper, words = parse_file(folder / PLAN, _parse_account)
    if sweeper != BASIC:
        raise UserError(f"{folder}: its sweeper chooses values as it goes, so that no job is known beforehand.")
    return words


def _parse_account(text: str) -> tuple[str, list[str]]:
    """Return the sweeper and the words of Hydra's account of a sweep."""
    hydra, own = yaml.safe_load(text)["hydra"], ("hydra.sweep.dir=", "hydra.mode=")
    words = [*hydra["overrides"]["task"], *(w for w in hydra["overrides"]["hydra"] if not w.startswith(own))]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("its overrides are not a list of words")
    return hydra["sweeper"]["_target_"], words


def mask_account(folder: Path) -> None:
    """Mask the secrets that were typed, in Hydra's account of the sweep in ``folder``."""
    file = folder / PLAN
    with contextlib.suppress(OSError, ValueError):
        account = yaml.safe_load(file.read_text(encoding="utf-8"))
        masked = mask(account)
        if masked != account:
            with write_atomically(file) as aside:
                aside.write_text(yaml.safe_dump(masked, sort_keys=False), encoding="utf-8")


def read_jobs(folder: Path) -> list[SweepJob]:
    """Return the jobs of the sweep in ``folder``, in order.

    Raises:
        UserError: as :func:`read_command`.
    """
    found = []
    for job in list_jobs(folder):
        state, detail = (State.PENDING, "") if job.folder is None else read_state(job.folder)
        found.append(SweepJob(job.number, job.words, state, detail, job.folder))
    return found


def list_jobs(folder: Path) -> list[PlannedJob]:
    """Return the same without how far they are, which reads no file of a job.

    Raises:
        UserError: as :func:`read_command`.
    """
    typed = [word for word in read_command(folder) if not word.startswith("hydra")]
    try:
        split = _split_words(typed)
    except HydraException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{folder / PLAN} cannot be read: its overrides are not key=value ({reason}).") from None
    same = set(split[0]).intersection(*split[1:]) if len(split) > 1 else set()
    shown = [" ".join(word for word in words if word not in same) for words in split]
    return [PlannedJob(number, words, _find_folder(folder, number)) for number, words in enumerate(shown)]


def _split_words(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each job, as Hydra's own sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(words))
    batches: list[list[list[str]]] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return batches[0]


def _find_folder(sweep: Path, number: int) -> Path | None:
    return next(iter(sorted(sweep.glob(f"{number}-*/"))), None)


def read_state(folder: Path) -> tuple[State, str]:
    """Return how far the run in ``folder`` is, and why it failed or where it stopped."""
    run = Run(folder)
    if run.is_finished:
        return _read_end(run)
    if run.pruned is not None:
        return State.PRUNED, run.pruned
    if is_running(folder):
        return State.RUNNING, ""
    if run.error is not None:
        return State.FAILED, run.error.partition("\n")[0]
    found, _ = checkpoint.find_newest(folder / "checkpoints")
    return State.STOPPED, f"at step {found.step:,}" if found else "without a checkpoint"


def is_running(folder: Path) -> bool:
    """Tell whether a process runs in ``folder``.

    Some file systems show no other machine's lock: a process of another machine counts as running as long as the folder
    was written to within the last :data:`QUIET` seconds.
    """
    return is_locked(folder) or (is_locked_elsewhere(folder) and time.time() - read_last_write(folder) < QUIET)


def read_last_write(folder: Path) -> float:
    """Return when the run last wrote into its folder, in seconds since the epoch; 0 where there is none."""
    written = [0.0]
    with contextlib.suppress(OSError):  # the folder, or a file of it, has gone meanwhile
        written.append(folder.stat().st_mtime)
        written += [entry.stat().st_mtime for entry in os.scandir(folder)]
    return max(written)


def _read_end(run: Run) -> tuple[State, str]:
    if (run.folder / GENERATED).is_file():
        return State.DONE, "generated"
    try:
        seconds = run.read_result().get("cost", {}).get("total_seconds")
    except UserError as error:
        return State.FAILED, str(error)
    return State.DONE, f"{seconds:.0f} s" if is_number(seconds) else ""

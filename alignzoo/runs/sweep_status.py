"""Reads the jobs of a sweep: what each was asked for, and how far it is."""

from __future__ import annotations

import contextlib
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
from alignzoo.system.lock import is_locked
from alignzoo.system.parsing import parse_file

PLAN = "multirun.yaml"  #: Hydra's account of a sweep
BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


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
    typed = [word for word in read_command(folder) if not word.startswith("hydra")]
    try:
        split = _split_words(typed)
    except HydraException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{folder / PLAN} cannot be read: its overrides are not key=value ({reason}).") from None
    same = set(split[0]).intersection(*split[1:]) if len(split) > 1 else set()
    shown = [" ".join(word for word in words if word not in same) for words in split]
    return [_read_job(folder, number, words) for number, words in enumerate(shown)]


def _split_words(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each job, as Hydra's own sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(words))
    batches: list[list[list[str]]] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return batches[0]


def _read_job(sweep: Path, number: int, words: str) -> SweepJob:
    folder = next(iter(sorted(sweep.glob(f"{number}-*/"))), None)
    state, detail = (State.PENDING, "") if folder is None else _state(folder)
    return SweepJob(number, words, state, detail, folder)


def _state(folder: Path) -> tuple[State, str]:
    run = Run(folder)
    if run.is_finished:
        return _read_end(run)
    if run.pruned is not None:
        return State.PRUNED, run.pruned
    if is_locked(folder):
        return State.RUNNING, ""
    if run.error is not None:
        return State.FAILED, run.error.partition("\n")[0]
    found, _ = checkpoint.find_newest(folder / "checkpoints")
    return State.STOPPED, f"at step {found.step:,}" if found else "without a checkpoint"


def _read_end(run: Run) -> tuple[State, str]:
    if (run.folder / GENERATED).is_file():
        return State.DONE, "generated"
    try:
        seconds = run.read_result().get("cost", {}).get("total_seconds")
    except UserError as error:
        return State.FAILED, str(error)
    return State.DONE, f"{seconds:.0f} s" if is_number(seconds) else ""

"""Runs a study from where it is: losses, tuning, the pick, fresh seeds. What has ended is not run again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from alignzoo.config.metrics import NUMBERS
from alignzoo.study.losses import verify_losses
from alignzoo.study.members import (
    Member,
    Phase,
    list_testing,
    list_tuning,
    make_sweep_words,
    read_members,
    write_options,
)
from alignzoo.study.page import write_study
from alignzoo.study.protocol import Protocol
from alignzoo.study.selection import read_trials, read_winners, write_winners
from alignzoo.system.errors import UserError, print_error
from alignzoo.system.lock import hold_lock

RunSweep = Callable[[Sequence[str]], None]  #: :func:`alignzoo.cli.main`


def run_study(protocol: Protocol, folder: Path, run_sweep: RunSweep) -> None:
    """Run what is missing of the study in ``folder``, whose protocol is fixed, and write its page after each phase.

    Raises:
        UserError: another process runs it; or no trial of any method can win.
        SystemExit: a phase was stopped.
    """
    with hold_lock(folder):
        print("\nstudy, losses: each trainer beside its paper's equation", flush=True)
        for method, told in verify_losses(protocol, folder).items():
            print(f"{method}: {told['verdict']}{_name_equation(told['equation'])}")
        _run_tuning(protocol, folder, run_sweep)
        _run_test(protocol, folder, run_sweep)
        write_study(folder)


def _name_equation(equation: str) -> str:
    return f" ({equation})" if equation else ""


def _run_tuning(protocol: Protocol, folder: Path, run_sweep: RunSweep) -> None:
    listed = list_tuning(protocol)
    trials = [(method, trial) for method, trial, _ in listed]
    members = _run_phase(protocol, folder, Phase.TUNE, trials, [protocol.seed], listed, run_sweep)
    if read_winners(folder) is None:
        found = read_trials(protocol, members)
        winners = write_winners(folder, found, protocol.settings.number)
        label = NUMBERS[protocol.settings.number].label
        for method in protocol.settings.methods:
            told = f"trial {winners[method] + 1}" if method in winners else "no trial can win"
            print(f"study, pick by {label} on validation rows: {method}: {told}", flush=True)


def _run_test(protocol: Protocol, folder: Path, run_sweep: RunSweep) -> None:
    winners = read_winners(folder) or {}
    if not winners:
        write_study(folder)
        raise UserError(f"no trial of any method can win: {folder / 'study.html'} says why.")
    listed = list_testing(protocol, winners)
    _run_phase(protocol, folder, Phase.TEST, [*winners.items()], protocol.fresh_seeds, listed, run_sweep)


def _run_phase(
    protocol: Protocol,
    folder: Path,
    phase: Phase,
    trials: Sequence[tuple[str, int]],
    seeds: Sequence[int],
    listed: Sequence[tuple[str, int, int]],
    run_sweep: RunSweep,
) -> list[Member]:
    """Run the phase's sweep unless all of it has ended, and return its runs."""
    members = read_members(folder, phase, listed)
    if all(member.has_ended for member in members):
        return members
    write_options(protocol, folder, phase, trials)
    write_study(folder)
    print(f"\nstudy, {phase}: {len(listed)} runs", flush=True)
    with _explain_stop(folder):
        _run_to_its_end(run_sweep, make_sweep_words(protocol, folder, phase, trials, seeds))
    members = read_members(folder, phase, listed)
    write_study(folder)
    left = sum(not member.has_ended for member in members)
    if left:
        raise UserError(f"{left} of {len(members)} runs of the phase {phase} did not end. To go on: {_resume(folder)}")
    return members


def _run_to_its_end(run_sweep: RunSweep, words: Sequence[str]) -> None:
    """Run a sweep; exit code 1 says that a run failed, which is no reason to stop: the page lists it."""
    try:
        run_sweep(words)
    except SystemExit as end:
        if end.code not in (0, 1, None):
            raise


@contextmanager
def _explain_stop(folder: Path) -> Iterator[None]:
    try:
        yield
    except SystemExit:
        print_error(f"the study was stopped; what is finished is kept. To go on: {_resume(folder)}")
        raise


def _resume(folder: Path) -> str:
    return shlex.join(["python", "-m", "alignzoo", "study", "resume", str(folder)])

"""Names a study's runs, and writes for each trial the Hydra option that its run is composed from.

A phase is an ordinary sweep over the options of the group ``trial`` in the study's folder ``conf``, so that every
launcher runs it, ``sweep status`` shows it, and ``resume=auto`` goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml

from alignzoo.runs.folder import Run
from alignzoo.runs.sweep_status import PLAN, State, read_jobs
from alignzoo.study.protocol import Protocol
from alignzoo.system.files import write_atomically

CONF = "conf"  #: in the study's folder, for ``--config-dir``
GROUP = "trial"
CALLBACK = "alignzoo.study.callback.StudyCallback"


class Phase(StrEnum):
    """A part of the study that is a sweep, with the name of its folder."""

    TUNE = "tune"
    TEST = "test"


@dataclass(frozen=True)
class Member:
    """One run of a study."""

    method: str
    trial: int
    """From 0 on."""

    seed: int
    state: State
    detail: str
    """Why it failed, or where it stopped."""

    run: Run | None
    """None while it is pending."""

    @property
    def has_ended(self) -> bool:
        """Whether it has a result, or failed."""
        return self.state not in (State.PENDING, State.RUNNING, State.STOPPED)


def name_option(method: str, trial: int, phase: Phase) -> str:
    """Return the name of the option of one trial; trials are counted from 1 where users see them."""
    return f"{method}-{trial + 1}" if phase is Phase.TUNE else f"{method}-{trial + 1}-test"


def list_tuning(protocol: Protocol) -> list[tuple[str, int, int]]:
    """Return method, trial and seed of each tuning run: one trial of every method after the other."""
    trials = range(protocol.settings.trials)
    return [(method, trial, protocol.seed) for trial in trials for method in protocol.settings.methods]


def list_testing(protocol: Protocol, winners: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Return method, trial and seed of each run of the test: one seed of every method's winner after the other."""
    return [(method, trial, seed) for seed in protocol.fresh_seeds for method, trial in winners.items()]


def write_options(protocol: Protocol, folder: Path, phase: Phase, trials: Sequence[tuple[str, int]]) -> None:
    """Write the option of each (method, trial) of the phase."""
    there = folder / CONF / GROUP
    there.mkdir(parents=True, exist_ok=True)
    for method, trial in trials:
        content = {
            "defaults": [{"override /method": method}],
            "method": dict(protocol.trials[method][trial]),
            "study": {"protocol": protocol.hash, "phase": str(phase), "trial": trial + 1},
        }
        with write_atomically(there / f"{name_option(method, trial, phase)}.yaml") as aside:
            text = yaml.safe_dump(content, sort_keys=False)
            aside.write_text(f"# @package _global_\n{text}", encoding="utf-8")


def make_sweep_words(
    protocol: Protocol, folder: Path, phase: Phase, trials: Sequence[tuple[str, int]], seeds: Sequence[int]
) -> list[str]:
    """Return the words of the phase's sweep, as behind ``python -m alignzoo``."""
    options = ",".join(name_option(*trial, phase) for trial in trials)
    own = [f"seed={','.join(map(str, seeds))}", f"+{GROUP}={options}"]
    there = [f"hydra.sweep.dir={folder / phase}", "resume=auto", f"+hydra.callbacks.study._target_={CALLBACK}"]
    return ["-m", "--config-dir", str(folder / CONF), *protocol.words, *protocol.places, *own, *there]


def read_members(folder: Path, phase: Phase, runs: Sequence[tuple[str, int, int]]) -> list[Member]:
    """Return the phase's runs with how far they are; ``runs`` are method, trial and seed, in the sweep's order."""
    sweep = folder / phase
    if not (sweep / PLAN).is_file():
        return [Member(*run, State.PENDING, "", None) for run in runs]
    return [
        Member(*run, job.state, job.detail, Run(job.folder) if job.folder else None)
        for run, job in zip(runs, read_jobs(sweep), strict=True)
    ]

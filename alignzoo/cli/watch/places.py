"""Finds what there is to follow in a folder: the runs that are there, and those that will be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from alignzoo.launch import pipeline
from alignzoo.launch.stages import list_stages
from alignzoo.runs.find_runs import SIGNS, read_runs
from alignzoo.runs.sweep_status import PLAN, PlannedJob, list_jobs
from alignzoo.study.members import Phase, list_testing, list_tuning
from alignzoo.study.protocol import FILE, Protocol, read_protocol
from alignzoo.study.selection import read_winners
from alignzoo.system.errors import UserError
from alignzoo.system.parsing import parse_file


@dataclass(frozen=True)
class Place:
    """One run of a folder."""

    name: str
    """What tells it from the others."""

    folder: Path | None
    """None, or a folder that does not exist, before the run has begun."""

    part: str = ""
    """The phase of the study, or the job of the sweep, that it belongs to."""

    method: str = ""
    """Where it is known before the run has begun."""


@dataclass(frozen=True)
class Found:
    """What there is in a folder."""

    kind: str
    """run, sweep, pipeline, study, or runs: several of them."""

    places: Sequence[Place]
    note: str = ""
    """What could not be read, and why."""


def find_places(folder: Path) -> Found:
    """Return what there is to follow in ``folder``, as its files have it now; whatever is damaged ends in a note."""
    kinds = {FILE: ("study", _list_study), pipeline.FILE: ("pipeline", _list_stages), PLAN: ("sweep", _list_sweep)}
    for file, (kind, list_places) in kinds.items():
        if (folder / file).is_file():
            try:
                return Found(kind, [*list_places(folder)])
            except UserError as error:
                return Found(kind, [*_list_runs(folder)], str(error))
    if any((folder / sign).is_file() for sign in SIGNS):
        return Found("run", [Place(folder.resolve().name, folder)])
    places = [*_list_runs(folder)]
    return Found("runs", places, "" if places else "Nothing has begun here yet.")


def _list_runs(folder: Path) -> Iterator[Place]:
    try:
        runs = read_runs([folder])
    except UserError:  # there are none
        return
    for run in runs:
        yield Place(str(run.folder.relative_to(folder)), run.folder)


def _list_sweep(folder: Path) -> Iterator[Place]:
    for job in list_jobs(folder):
        if job.folder is not None and (job.folder / pipeline.FILE).is_file():
            yield from _list_stages(job.folder, part=job.words)
        else:
            method = next((word[7:] for word in job.words.split() if word.startswith("method=")), "")
            yield Place(job.words or f"job {job.number}", job.folder, method=method)


def _list_stages(folder: Path, part: str = "") -> Iterator[Place]:
    for named, below in list_stages(parse_file(folder / pipeline.FILE, _parse_pipeline), folder):
        method = named.keys.get("method") if isinstance(named.keys, dict) else None
        yield Place(named.name, below, part, str(method or ""))


def _parse_pipeline(text: str) -> dict[str, Any]:
    """Return the group ``pipeline`` of a pipeline's account."""
    return dict(yaml.safe_load(text)["pipeline"])


def _list_study(folder: Path) -> Iterator[Place]:
    protocol, winners = read_protocol(folder), read_winners(folder)
    yield from _list_phase(folder, Phase.TUNE, protocol, list_tuning(protocol))
    if winners is None:
        for seed in protocol.fresh_seeds:
            for method in protocol.settings.methods:
                yield Place(f"{method}, seed {seed}", None, Phase.TEST, method)
    else:
        yield from _list_phase(folder, Phase.TEST, protocol, list_testing(protocol, winners))


def _list_phase(
    folder: Path, phase: Phase, protocol: Protocol, runs: Sequence[tuple[str, int, int]]
) -> Iterator[Place]:
    """Yield the runs of a phase, each method, trial and seed, which is a sweep once it has begun."""
    sweep = folder / phase
    jobs: Sequence[PlannedJob] = list_jobs(sweep) if (sweep / PLAN).is_file() else ()
    for (method, trial, seed), job in zip_longest(runs, jobs[: len(runs)]):
        values = ", ".join(f"{key} {value:.3g}" for key, value in protocol.trials[method][trial].items())
        which = f"trial {trial + 1}" if phase is Phase.TUNE else f"seed {seed}"
        yield Place(f"{method}, {which}: {values}", job.folder if job else None, phase, method)

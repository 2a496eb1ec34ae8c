"""Reads what a folder's runs have written, again and again: a file that did not change is not read twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignzoo.cli.watch.places import Found, Place, find_places
from alignzoo.cli.watch.run_page import describe_age, describe_run, read_curves, read_details
from alignzoo.cli.watch.time_left import estimate_left
from alignzoo.report.leaderboard.draw import LIGHT, Palette
from alignzoo.runs import progress
from alignzoo.runs.find_runs import SIGNS
from alignzoo.runs.folder import ANSWERS, CONFIG, GENERATED, PRUNED, Run
from alignzoo.runs.sweep_status import State, is_running, read_last_write, read_state
from alignzoo.study.reading import Study
from alignzoo.system import lock
from alignzoo.system.errors import UserError
from alignzoo.system.limits import format_seconds

#: Files of a run that change what is shown of it; of a folder, only that something was added or removed.
FILES = frozenset(
    {
        *(*SIGNS, PRUNED, GENERATED, ANSWERS["heldout"], progress.FILE, progress.ANSWERS),
        *("checkpoints", lock.FILE),
    }
)
OVER = (State.DONE, State.PRUNED, State.FAILED)

STARTING = 120.0  #: seconds in which a run comes to lock its folder

Signature = tuple[Any, ...]


@dataclass
class _Known:
    """What was read of one run, and of which files."""

    signature: Signature
    state: State
    line: dict[str, Any]
    curves: dict[str, list[list[float]]]
    details: dict[str, Any] | None = None
    """Read when they are asked for."""


class Watch:
    """A folder that is followed; one thread at a time may ask it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs: dict[Path, _Known] = {}
        self._keys: dict[str, Path] = {}
        self._study: tuple[Signature, list[str]] = ((), [])

    def read(self) -> dict[str, Any]:
        """Return what the page shows of the whole: how far it is, and a line for each run."""
        found = find_places(self.folder)
        runs = [self._describe(place) for place in found.places]
        counts = Counter(run["state"] for run in runs)
        palette = Palette(run["method"] for run in runs if run["method"])
        for run in runs:
            run["colour"] = palette.place.get(run["method"], 0) % len(LIGHT)
        left = estimate_left(runs)
        return {
            "kind": found.kind,
            "folder": str(self.folder),
            "counts": [[state, counts[state]] for state in State if counts[state]],
            "left": "" if left is None else format_seconds(left),
            "is_over": bool(runs) and all(run["state"] in OVER for run in runs),
            "answer": self._read_answer(found, runs),
            "notes": [found.note] if found.note else [],
            "runs": [_format(run) for run in runs],
        }

    def read_curves(self) -> dict[str, dict[str, list[list[float]]]]:
        """Return each headline number's curves, by the keys of the runs."""
        curves: dict[str, dict[str, list[list[float]]]] = {}
        for place in find_places(self.folder).places:
            if place.folder is not None and place.folder.is_dir():
                for name, points in self._update(place.folder).curves.items():
                    curves.setdefault(name, {})[self._key(place.folder)] = points
        return curves

    def read_run(self, key: str) -> dict[str, Any] | None:
        """Return what the page shows of one run alone; None where ``key`` is not that of one."""
        folder = self._keys.get(key)
        if folder is None:
            return None
        known = self._update(folder)
        known.details = known.details or read_details(Run(folder))
        return known.details

    def _describe(self, place: Place) -> dict[str, Any]:
        shown = {"name": place.name, "part": place.part, "key": ""}
        if place.folder is None or not place.folder.is_dir():
            return {**shown, "method": place.method, "state": State.PENDING, "detail": ""}
        known = self._update(place.folder)
        age = {"detail": describe_age(read_last_write(place.folder))} if known.state is State.RUNNING else {}
        return {**known.line, **age, **shown, "key": self._key(place.folder)}

    def _update(self, folder: Path) -> _Known:
        """Return what is known of a run, without what was read of files that have changed since."""
        signature = (_sign(folder), is_running(folder), _is_starting(folder))
        known = self._runs.get(folder)
        if known is None or known.signature != signature:
            run, (state, detail) = Run(folder), read_state(folder)  # not kept: its history is large
            if state is State.STOPPED and _is_starting(folder):
                state, detail = State.RUNNING, ""
            known = self._runs[folder] = _Known(signature, state, describe_run(run, state, detail), read_curves(run))
        return known

    def _key(self, folder: Path) -> str:
        """Return the name by which the page asks for a run: not a path, and not one of another folder."""
        key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        self._keys[key] = folder
        return key

    def _read_answer(self, found: Found, runs: list[dict[str, Any]]) -> list[str]:
        """Return what a study says so far, and what to know before believing it; read again when a run has ended."""
        if found.kind != "study" or found.note:
            return []
        ended = tuple((run["name"], run["state"] in OVER) for run in runs)
        if not self._study[1] or self._study[0] != ended:
            try:
                study = Study.read(self.folder)
                self._study = (ended, [study.answer, *study.notes])
            except UserError as error:
                self._study = (ended, [str(error)])
        return self._study[1]


def _is_starting(folder: Path) -> bool:
    """Tell whether a run was given its folder just now, and may not have come to lock it: it imports, or is checked."""
    return not (folder / CONFIG).is_file() and time.time() - read_last_write(folder) < STARTING


def _sign(folder: Path) -> Signature:
    """Return what changes when a file that is shown does."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return tuple(sorted(_sign_file(entry) for entry in entries if entry.name in FILES))
    return ()


def _sign_file(entry: os.DirEntry[str]) -> tuple[str, int, int]:
    found = entry.stat()
    return entry.name, found.st_mtime_ns, found.st_size


def _format(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line with times as they are read."""
    times = {key: format_seconds(run[key]) if run.get(key) is not None else "" for key in ("seconds", "left")}
    return {key: value for key, value in {**run, **times}.items() if key != "measuring"}

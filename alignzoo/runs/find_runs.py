"""Finds the runs in and below folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from alignzoo.runs.folder import CONFIG, PLOTS, Run
from alignzoo.system.errors import UserError

#: A folder with one of these is a run's.
SIGNS = ("result.json", "error.txt", "command.txt", CONFIG, "metrics.jsonl")
DEPTH = 4  #: folders below the given one in which runs are looked for: outputs/sweeps/DATE/TIME/RUN


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs in ``folders``, each a run's or one with runs below it; a folder named twice counts once.

    Raises:
        UserError: a folder does not exist, or holds no runs.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        below = list(_runs_below(folder, DEPTH)) if folder.is_dir() else []
        if not below:
            what = "holds no runs" if folder.is_dir() else "is not a folder"
            raise UserError(f"{folder} {what}: name run folders, or a sweep's (outputs/sweeps/DATE/TIME).")
        found |= {path.resolve(): path for path in below if path.resolve() not in found}
    return [Run(path) for path in found.values()]


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        if any((folder / sign).is_file() for sign in SIGNS):
            yield folder
            return
        swept = (folder / "multirun.yaml").is_file()
        children = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # nobody may look into it: named like a run that cannot be read
        yield folder
        return
    for child in sorted(children, key=_number):
        if child.name == PLOTS:
            continue
        if swept and _is_empty(child):
            yield child  # a sweep job that was stopped before it wrote a file
        elif depth:
            yield from _runs_below(child, depth - 1)


def _is_empty(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return not any(folder.iterdir())
    return False


def _number(path: Path) -> tuple[int, str]:
    head = path.name.split("-")[0]
    return (int(head) if head.isdigit() else -1, path.name)

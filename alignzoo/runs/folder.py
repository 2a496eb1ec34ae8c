"""The runs of a leaderboard, read from their folders."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignzoo.config.plain import flatten
from alignzoo.system.errors import UserError

#: A folder with one of these is a run's.
SIGNS = ("result.json", "error.txt", "command.txt", "run.yaml", "metrics.jsonl")
DEPTH = 4  #: folders below the given one in which runs are looked for: outputs/sweeps/DATE/TIME/RUN


@dataclass(frozen=True, eq=False)
class Run:
    """One run: what was asked for, what it logged, and its result or why it has none."""

    folder: Path
    overrides: tuple[str, ...]
    config: Mapping[str, Any]
    """Flat: ``method.beta`` -> 0.1."""

    result: Mapping[str, Any] | None
    reason: str
    """Why there is no result; empty where there is one."""

    history: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """Lines of metrics.jsonl."""

    lines: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """Lines of answers.jsonl."""

    @property
    def method(self) -> str:
        """Its name; of a run that failed before it was composed, as the command has it."""
        asked = [word.partition("=")[2] for word in self.overrides if word.startswith("method=")]
        known = (self.result or {}).get("method") or self.config.get("method.name")
        parts = self.folder.name.split("-")  # NUMBER-METHOD-MODEL-DATASET
        named = parts[1] if len(parts) > 1 and parts[0].isdigit() else "?"
        return str(known or (asked[-1] if asked else named))

    @property
    def is_stage(self) -> bool:
        """Whether it is a stage of a pipeline."""
        return (self.folder.resolve().parent / "pipeline.yaml").is_file()

    @property
    def seed(self) -> Any:
        """The run's seed, or None where it is not known."""
        asked = [word.partition("=")[2] for word in self.overrides if word.startswith("seed=")]
        return self.config.get("seed", asked[-1] if asked else None)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs in ``folders``, each a run's or one with runs below it; a folder named twice counts once.

    Raises:
        UserError: a folder does not exist, or holds no runs.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        below = list(_runs_below(folder, DEPTH)) if folder.is_dir() else []
        if not below:
            what = "holds no runs" if folder.is_dir() else "is no folder"
            raise UserError(f"{folder} {what}: name run folders, or a sweep's (outputs/sweeps/DATE/TIME).")
        for path in below:
            found.setdefault(path.resolve(), path)
    return [read_run(path) for path in found.values()]


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / sign).is_file() for sign in SIGNS):
        yield folder
        return
    swept = (folder / "multirun.yaml").is_file()
    children = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for child in sorted(children, key=_number):
        if swept and not any(child.iterdir()):
            yield child  # a member that was stopped before it wrote a file
        elif depth:
            yield from _runs_below(child, depth - 1)


def _number(path: Path) -> tuple[int, str]:
    head = path.name.split("-")[0]
    return (int(head) if head.isdigit() else -1, path.name)


def read_run(folder: Path) -> Run:
    """Return the run of one folder. What cannot be read is the reason why it has no result."""
    result, reason = _result(folder)
    return Run(
        folder=folder,
        overrides=_overrides(folder),
        config=_config(folder / "run.yaml"),
        result=result,
        reason=reason,
        history=_lines(folder / "metrics.jsonl"),
        lines=_lines(folder / "answers.jsonl"),
    )


def _result(folder: Path) -> tuple[dict[str, Any] | None, str]:
    error, file = folder / "error.txt", folder / "result.json"
    if error.is_file():
        return None, error.read_text(encoding="utf-8", errors="replace").strip() or "failed, and did not say why"
    if not file.is_file():
        return None, "did not finish"
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as broken:
        return None, f"result.json cannot be read: {broken}"
    if not found["after"].keys() <= found.get("intervals", {}).keys():
        return None, f"its numbers have no intervals: `alignzoo evaluate {folder} --save` measures it again"
    return found, ""


def _overrides(folder: Path) -> tuple[str, ...]:
    """Return the words behind ``python -m alignzoo``; its folder's name where it failed before writing them."""
    file = folder / "command.txt"
    if not file.is_file():
        return (folder.name,)
    return tuple(shlex.split(file.read_text(encoding="utf-8"))[3:])


def _config(file: Path) -> dict[str, Any]:
    import yaml

    if not file.is_file():
        return {}
    read = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    read.pop("hydra", None)  # the folders of the run, not its settings
    return {key: _number_of(value) for key, value in flatten(read).items()}


def _number_of(value: Any) -> Any:
    """Return a number that YAML 1.1 reads as text, as it does 5e-07."""
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole: of a run that was killed the last one may not be."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found

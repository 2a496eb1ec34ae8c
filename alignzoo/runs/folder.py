"""Reads the folders of runs: what was asked for, what was logged, and the result or why there is none."""

from __future__ import annotations

import contextlib
import functools
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import flatten
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG = "run.yaml"  #: the composed configuration

#: A folder with one of these is a run's.
SIGNS = ("result.json", "error.txt", "command.txt", CONFIG, "metrics.jsonl")
DEPTH = 4  #: folders below the given one in which runs are looked for: outputs/sweeps/DATE/TIME/RUN


@dataclass(frozen=True, eq=False)
class Run:
    """One run, read from its folder when it is asked; what was read once stays."""

    folder: Path

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        return (self.folder / "result.json").is_file()

    def read_result(self) -> dict[str, Any]:
        """Return what ``result.json`` holds.

        Raises:
            OSError: there is none.
            ValueError: it is not JSON.
        """
        result: dict[str, Any] = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        return result

    @property
    def objective(self) -> float | None:
        """The number by which sweeps and leaderboards judge the finished run, where it has one."""
        result = self.read_result()
        value: float | None = result["after"].get(result["objective"])
        return value

    @functools.cached_property
    def error(self) -> str | None:
        """What ``error.txt`` says, or None where there is none."""
        file = self.folder / "error.txt"
        return file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else None

    @functools.cached_property
    def result(self) -> dict[str, Any] | None:
        """Its result; None where it has none that can be compared, and then :attr:`reason` says why."""
        return self._comparable[0]

    @functools.cached_property
    def reason(self) -> str:
        """Why there is no result; empty where there is one."""
        return self._comparable[1]

    @functools.cached_property
    def _comparable(self) -> tuple[dict[str, Any] | None, str]:
        if self.error is not None:
            return None, self.error or "failed, and did not say why"
        if not self.is_finished:
            return None, "did not finish"
        try:
            found = self.read_result()
        except ValueError as broken:
            return None, f"result.json cannot be read: {broken}"
        if not found["after"].keys() <= found.get("intervals", {}).keys():
            return None, f"its numbers have no intervals: `alignzoo evaluate {self.folder} --save` measures it again"
        return found, ""

    @functools.cached_property
    def overrides(self) -> tuple[str, ...]:
        """The words behind ``python -m alignzoo``; its folder's name where it failed before writing them."""
        file = self.folder / "command.txt"
        if not file.is_file():
            return (self.folder.name,)
        return tuple(shlex.split(file.read_text(encoding="utf-8"))[3:])

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Its settings, flat: ``method.beta`` -> 0.1; empty where it was not composed."""
        import yaml

        file = self.folder / CONFIG
        read = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
        read.pop("hydra", None)  # the folders of the run, not its settings
        return {key: _number_of(value) for key, value in flatten(read).items()}

    def load_config(self) -> DictConfig:
        """Return its composed configuration, without Hydra's part.

        Raises:
            UserError: ``run.yaml`` is not a configuration.
        """
        from omegaconf import DictConfig, OmegaConf

        cfg = OmegaConf.load(self.folder / CONFIG)
        if not isinstance(cfg, DictConfig):
            raise UserError(f"{self.folder / CONFIG} is not a configuration.")
        cfg.pop("hydra", None)
        return cfg

    @functools.cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return _read_lines(self.folder / "metrics.jsonl")

    @functools.cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of ``answers.jsonl``."""
        return _read_lines(self.folder / "answers.jsonl")

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
            what = "holds no runs" if folder.is_dir() else "is not a folder"
            raise UserError(f"{folder} {what}: name run folders, or a sweep's (outputs/sweeps/DATE/TIME).")
        for path in below:
            found.setdefault(path.resolve(), path)
    return [Run(path) for path in found.values()]


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    if any((folder / sign).is_file() for sign in SIGNS):
        yield folder
        return
    swept = (folder / "multirun.yaml").is_file()
    children = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    for child in sorted(children, key=_number):
        if swept and not any(child.iterdir()):
            yield child  # a sweep job that was stopped before it wrote a file
        elif depth:
            yield from _runs_below(child, depth - 1)


def _number(path: Path) -> tuple[int, str]:
    head = path.name.split("-")[0]
    return (int(head) if head.isdigit() else -1, path.name)


def _number_of(value: Any) -> Any:
    """Return a number that YAML 1.1 reads as text, as it does 5e-07."""
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines that are whole; a run that was killed may have left another, also one before it was resumed."""
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found

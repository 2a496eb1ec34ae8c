"""Reads the folders of runs: what was asked for, what was logged, and the result or why there is none."""

from __future__ import annotations

import contextlib
import functools
import io
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from alignzoo.runs.contents import parse_answers, parse_config, parse_history, parse_items, parse_result
from alignzoo.system.errors import UserError
from alignzoo.system.parsing import parse_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

T = TypeVar("T")

CONFIG = "run.yaml"  #: the composed configuration

TASKS = "tasks"  #: the side of what benchmark tasks measure

#: The files with prompts and their answers, of those held out and of those for validation, and with tasks' items.
ANSWERS = {"heldout": "answers.jsonl", "validation": "validation.jsonl", TASKS: "tasks.jsonl"}

GENERATED = "generated.json"  #: what a generation made, written last of all
PRUNED = "pruned.txt"  #: why a job of a sweep was ended before its time

#: In a line of ``metrics.jsonl``, of a measurement on the way: its number from 1, and the objective.
NUMBER, VALUE = "pruning/measurement", "pruning/value"

PLOTS = "leaderboard"  #: the folder with the plots of a leaderboard, which holds no runs


@dataclass(frozen=True, eq=False)
class Run:
    """One run, read from its folder when it is asked; what was read once stays."""

    folder: Path

    @property
    def is_finished(self) -> bool:
        """Whether it came to its end."""
        return any((self.folder / name).is_file() for name in ("result.json", GENERATED))

    def read_result(self) -> dict[str, Any]:
        """Return what ``result.json`` holds.

        Raises:
            UserError: there is none, or it is not the result of a run.
        """
        if not (self.folder / "result.json").is_file():
            raise UserError(f"{self.folder} is not a finished run: it has no result.json.")
        return parse_file(self.folder / "result.json", parse_result)

    def read_start(self) -> str:
        """Return the folder of the model that the finished run began with.

        Raises:
            UserError: as :meth:`read_result`, or it does not say.
        """
        folder = self.read_result().get("start", {}).get("folder")
        if not isinstance(folder, str):
            raise UserError(f"{self.folder / 'result.json'} names no start model.")
        return folder

    @property
    def objective(self) -> float | None:
        """The number by which sweeps select, where it has one: on the validation rows, where there are any."""
        if self.pruned is not None and not self.is_finished:
            return next((line[VALUE] for line in reversed(self.history) if VALUE in line), None)
        if (self.folder / GENERATED).is_file():
            return None
        result = self.read_result()
        value: float | None = result.get("validation", result)["after"].get(result.get("objective"))
        return value

    @functools.cached_property
    def error(self) -> str | None:
        """What ``error.txt`` says, or None where there is none."""
        file = self.folder / "error.txt"
        return file.read_text(encoding="utf-8", errors="replace").strip() if file.is_file() else None

    @functools.cached_property
    def pruned(self) -> str | None:
        """Why the run was ended before its time, as it had fallen behind the others of its sweep; else None."""
        file = self.folder / PRUNED
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
        try:
            if self.error is not None:
                return None, self.error or "failed, and did not say why"
            if not self.is_finished:
                return None, self.pruned or "did not finish"
            found, _ = self.read_result(), (self._command, self._settings, self.lines, self.items)  # all compared
        except UserError as error:
            return None, str(error).removeprefix(f"{self.folder}/")
        except OSError as error:
            return None, f"cannot be read: {error.strerror}"
        if not found["after"].keys() <= found.get("intervals", {}).keys():
            return None, f"its numbers have no intervals: `alignzoo evaluate {self.folder} --save` measures it again"
        return found, ""

    @functools.cached_property
    def _command(self) -> tuple[str, ...]:
        default = (self.folder.name,)
        return self._parse("command.txt", lambda text: tuple(shlex.split(text))[3:], default)

    @functools.cached_property
    def _settings(self) -> dict[str, Any]:
        return self._parse(CONFIG, parse_config, {})

    @property
    def overrides(self) -> tuple[str, ...]:
        """The words behind ``python -m alignzoo``; its folder's name where they were not written or cannot be read."""
        with contextlib.suppress(UserError):
            return self._command
        return (self.folder.name,)

    @property
    def config(self) -> dict[str, Any]:
        """Its settings, flat: ``method.beta`` -> 0.1; empty where it was not composed, or they cannot be read."""
        with contextlib.suppress(UserError):
            return self._settings
        return {}

    def load_config(self) -> DictConfig:
        """Return its composed configuration, without Hydra's part.

        Raises:
            UserError: ``run.yaml`` is not a configuration.
        """
        from omegaconf import DictConfig, OmegaConf

        cfg = parse_file(self.folder / CONFIG, lambda text: OmegaConf.load(io.StringIO(text)))
        if not isinstance(cfg, DictConfig):
            raise UserError(f"{self.folder / CONFIG} is not a configuration.")
        cfg.pop("hydra", None)
        return cfg

    @functools.cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` that are whole."""
        with contextlib.suppress(OSError):
            return parse_history((self.folder / "metrics.jsonl").read_text(encoding="utf-8", errors="replace"))
        return []

    @functools.cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of ``answers.jsonl``; none where nothing was measured.

        Raises:
            UserError: one of them cannot be read.
        """
        return self._parse(ANSWERS["heldout"], parse_answers, [])

    @functools.cached_property
    def items(self) -> list[dict[str, Any]]:
        """The lines of ``tasks.jsonl``; none where no benchmark was measured.

        Raises:
            UserError: one of them cannot be read.
        """
        return self._parse(ANSWERS[TASKS], parse_items, [])

    @functools.cached_property
    def by_prompt(self) -> dict[tuple[Any, str], dict[str, Any]]:
        """:attr:`lines` by id and prompt: datasets number their rows alike."""
        return {(line["id"], line["prompt"]): line for line in self.lines}

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
        found = self.config.get("seed", asked[-1] if asked else None)
        return found if isinstance(found, int | float | None) else str(found)

    def _parse(self, name: str, parse: Callable[[str], T], otherwise: T) -> T:
        """Return what ``parse`` makes of the file called ``name``, or ``otherwise`` where there is none."""
        file = self.folder / name
        return parse_file(file, parse) if file.is_file() else otherwise

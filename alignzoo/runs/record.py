"""Writes the run folder: what was run, on what, and what came out."""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import json
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from alignzoo.config.secrets import hide_in_text, hide_in_word, hide_secrets
from alignzoo.runs import progress
from alignzoo.runs.folder import ANSWERS, CONFIG, GENERATED, PRUNED, Run
from alignzoo.runs.surroundings import environment
from alignzoo.runs.watch import FolderWatch
from alignzoo.system import ranks
from alignzoo.system.errors import UserError
from alignzoo.system.files import hash_files, put_in_place, remove_unfinished, write_atomically
from alignzoo.system.folders import run_folders

if TYPE_CHECKING:
    import pandas as pd


class Record:
    """One run's folder.

    ``run.yaml`` the composed configuration; ``command.txt`` the command that made it; ``environment.json``
    versions, git, hardware, seed; ``data.parquet`` the manifest of rows; ``metrics.jsonl`` one line a logged step;
    ``progress.json`` how far it is; ``answers_so_far.jsonl`` answers on the way; ``answers.jsonl`` held-out prompts
    answered before and after, ``validation.jsonl`` those for validation; ``result.json`` the numbers; ``plots/``;
    ``model/``; ``error.txt`` why it failed, instead of a result; ``logs/`` each process's log where there are several.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made or written, or holds another run's result.
        """
        if Run(folder).is_finished:
            raise UserError(f"hydra.run.dir={folder} holds a finished run: choose another folder, or delete it.")
        self.folder = run_folders().make(folder)
        self.watch = FolderWatch(self.folder)

    @classmethod
    def of(cls, folder: Path) -> Record:
        """Return the record of a run whose folder is there."""
        record = cls.__new__(cls)
        record.folder, record.watch = folder, FolderWatch(folder)
        return record

    def replace_measurements(self, measured: Mapping[str, Sequence[dict[str, Any]]], numbers: dict[str, Any]) -> None:
        """Put new measurements in the place of the old ones; what the run cost stays."""
        result = self.read_result()
        self.write_answers(measured)
        self._json("result.json", {**result, **numbers})

    @ranks.on_main
    def truncate(self, step: int) -> None:
        """Take back what an earlier start logged beyond ``step``, from which this one resumes; 0: all of it.

        The totals at the end of a training that was stopped go too.
        """
        for name in ("error.txt", PRUNED):
            (self.folder / name).unlink(missing_ok=True)
        progress.truncate(self.folder, step)
        remove_unfinished(self.folder)  # of a start that was killed while it wrote
        lines = [line for line in self.read_history() if line["step"] <= step and "train_runtime" not in line]
        if lines:
            self._lines("metrics.jsonl", lines)
        else:
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)

    @ranks.on_main
    def describe(self, cfg: DictConfig, overrides: Sequence[str]) -> None:
        """Write config, command and environment.

        ``python -m alignzoo --config-dir FOLDER --config-name run`` runs the config again, also with other overrides.
        """
        self._write(CONFIG, runnable(cfg))
        self.watch.has_begun = True
        self._command(overrides)
        self._json("environment.json", {"seed": cfg.seed, **environment()})

    @ranks.on_main
    def write_manifest(self, rows: pd.DataFrame) -> None:
        """Write which rows were used, and why the others were not."""
        with write_atomically(self.folder / "data.parquet") as aside:
            rows.to_parquet(aside, index=False)

    @ranks.on_main
    def append_metrics(self, line: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; NaN and infinity become null, which JSON lacks."""
        safe = {key: value if _finite(value) else None for key, value in line.items()}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(safe) + "\n")

    def read_history(self) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl`` that are whole."""
        return Run(self.folder).history

    def write_answers(self, measured: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        """Write the prompts of each side, ``heldout`` or ``validation``, with their answers before and after."""
        for side, rows in measured.items():
            self._lines(ANSWERS[side], rows)

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, last of all: where it is, the run is whole."""
        self._json("result.json", result)

    def write_generation(self, files: Mapping[str, Sequence[dict[str, Any]]], found: dict[str, Any]) -> None:
        """Write files of generated rows, and last of all what they are, with the SHA-256 of each."""
        for name, rows in files.items():
            self._lines(name, rows)
        self._json(GENERATED, {**found, "sha256": {name: hash_files([self.folder / name]) for name in files}})

    def read_result(self) -> dict[str, Any]:
        """Return what ``result.json`` holds."""
        return Run(self.folder).read_result()

    @ranks.on_main
    def write_error(self, reason: str, overrides: Sequence[str]) -> None:
        """Write why the run failed, beside its command, if the disk has room for that."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)  # where it was removed during the run
            self._command(overrides)
            (self.folder / "error.txt").write_text(f"{hide_in_text(reason)}\n", encoding="utf-8")

    @ranks.on_main
    def write_pruned(self, reason: str) -> None:
        """Write why the run was ended before its time; there is no result then."""
        self._write(PRUNED, f"{reason}\n")

    def save_model(self, trainer: Any, whole: bool = False) -> None:
        """Save model and tokenizer, and remove the folder for checkpoints if none was saved.

        ``whole``: merge an adapter into its model first, since who loads a reward model looks for a whole one.
        """
        if whole and hasattr(trainer.model, "merge_and_unload"):
            trainer.model = trainer.model.merge_and_unload()
        aside, model = self.folder / ".model", self.folder / "model"
        if ranks.rank() == 0:
            shutil.rmtree(aside, ignore_errors=True)
        ranks.wait()
        trainer.save_model(str(aside))
        ranks.wait()
        if ranks.rank() == 0:
            (aside / "training_args.bin").unlink(missing_ok=True)  # a pickle of the trainer's settings, tokens too
            put_in_place(aside, model)
        with contextlib.suppress(OSError):
            (self.folder / "checkpoints").rmdir()

    @property
    def trained(self) -> bool:
        """Whether a training step was logged or saved."""
        return (self.folder / "metrics.jsonl").exists() or any(self.folder.glob("checkpoints/checkpoint-*"))

    @ranks.on_main
    def discard(self) -> None:
        """Take back a run that failed before it trained: its own files, and the folders made for it."""
        for name in ("run.yaml", "command.txt", "environment.json", "data.parquet", "alignzoo.log"):
            (self.folder / name).unlink(missing_ok=True)
        progress.truncate(self.folder, 0)
        shutil.rmtree(self.folder / "logs", ignore_errors=True)
        run_folders().remove_empty()

    def _command(self, overrides: Sequence[str]) -> None:
        words = map(hide_in_word, overrides)
        self._write("command.txt", f"{shlex.join(['python', '-m', 'alignzoo', *words])}\n")

    def _json(self, name: str, content: dict[str, Any]) -> None:
        self._write(name, json.dumps(content, indent=2, default=str) + "\n")

    def _lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        self._write(name, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))

    def _write(self, name: str, text: str) -> None:
        with write_atomically(self.folder / name) as aside:
            aside.write_text(text, encoding="utf-8")


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or value - value == 0


def runnable(cfg: DictConfig) -> str:
    """Return the composed ``cfg`` as the text of a ``run.yaml``, with Hydra's part of our ``conf/config.yaml``.

    What comes from the environment stays as it was typed, and secrets are masked.
    """
    return _read_hydra_part() + OmegaConf.to_yaml(hide_secrets(cfg))


@functools.cache
def _read_hydra_part() -> str:
    ours = importlib.resources.files("alignzoo_conf").joinpath("config.yaml").read_text(encoding="utf-8")
    return OmegaConf.to_yaml({"hydra": OmegaConf.create(ours).hydra})

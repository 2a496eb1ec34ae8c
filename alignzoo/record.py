"""The run folder: what was run, on what, what came out."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.resources
import json
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from alignzoo import folders
from alignzoo.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


class Record:
    """One run's folder.

    ``run.yaml`` the composed configuration; ``command.txt`` the command that made it; ``environment.json``
    versions, git, hardware, seed; ``data.parquet`` the manifest of rows; ``metrics.jsonl`` one line a logged step;
    ``answers.jsonl`` held-out prompts answered before and after; ``result.json`` the numbers; ``plots/``; ``model/``;
    ``error.txt`` why it failed, instead of a result.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made or written, or holds another run's result.
        """
        self.started = time.time()
        if (folder / "result.json").exists():
            raise UserError(f"hydra.run.dir={folder} holds a finished run: choose another folder, or delete it.")
        self.folder = folders.make(folder)

    @classmethod
    def of(cls, folder: Path) -> Record:
        """Return the record of a run that has finished."""
        record = cls.__new__(cls)
        record.folder, record.started = folder, time.time()
        return record

    def remeasured(self, lines: Sequence[dict[str, Any]], numbers: dict[str, Any]) -> None:
        """Put new measurements in the place of the old ones; what the run cost stays."""
        result = json.loads((self.folder / "result.json").read_text(encoding="utf-8"))
        self.answers(lines)
        self._json("result.json", {**result, **numbers})

    def describe(self, cfg: DictConfig, overrides: Sequence[str]) -> None:
        """Write config, command and environment.

        ``python -m alignzoo --config-dir FOLDER --config-name run`` runs the config again, also with other overrides.
        """
        ours = importlib.resources.files("alignzoo_conf").joinpath("config.yaml").read_text(encoding="utf-8")
        again = {"hydra": OmegaConf.create(ours).hydra}
        text = OmegaConf.to_yaml(again) + OmegaConf.to_yaml(cfg, resolve=True)
        (self.folder / "run.yaml").write_text(text, encoding="utf-8")
        self._command(overrides)
        self._json("environment.json", {"seed": cfg.seed, **environment()})

    def manifest(self, rows: pd.DataFrame) -> None:
        """Write which rows were used, and why the others were not."""
        rows.to_parquet(self.folder / "data.parquet", index=False)

    def metrics(self, line: dict[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``; NaN and infinity become null, which JSON lacks."""
        safe = {key: value if _finite(value) else None for key, value in line.items()}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(safe) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """Return the lines of ``metrics.jsonl``."""
        file = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []

    def answers(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write held-out prompts with their answers before and after."""
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (self.folder / "answers.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def finish(self, result: dict[str, Any]) -> None:
        """Write ``result.json``, last of all: where it is, the run is whole."""
        self._json("result.json", result)

    def fail(self, reason: str, overrides: Sequence[str]) -> None:
        """Write why the run failed, beside its command."""
        self._command(overrides)
        (self.folder / "error.txt").write_text(f"{reason}\n", encoding="utf-8")

    def model(self, trainer: Any, whole: bool = False) -> None:
        """Save model and tokenizer, and remove the folder for checkpoints if none was saved.

        ``whole``: merge an adapter into its model first, since who loads a reward model looks for a whole one.
        """
        if whole and hasattr(trainer.model, "merge_and_unload"):
            trainer.model = trainer.model.merge_and_unload()
        trainer.save_model(str(self.folder / "model"))
        with contextlib.suppress(OSError):
            (self.folder / "checkpoints").rmdir()

    @property
    def trained(self) -> bool:
        """Whether a training step was logged."""
        return (self.folder / "metrics.jsonl").exists()

    def discard(self) -> None:
        """Take back a run that failed before it trained: its own files, and the folders made for it."""
        for name in ("run.yaml", "command.txt", "environment.json", "data.parquet", "alignzoo.log"):
            (self.folder / name).unlink(missing_ok=True)
        folders.take_back()

    def _command(self, overrides: Sequence[str]) -> None:
        command = shlex.join(["python", "-m", "alignzoo", *overrides])
        (self.folder / "command.txt").write_text(f"{command}\n", encoding="utf-8")

    def _json(self, name: str, content: dict[str, Any]) -> None:
        aside = self.folder / f".{name}.{os.getpid()}"
        aside.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        aside.replace(self.folder / name)


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or value - value == 0


def environment() -> dict[str, Any]:
    """Return versions of every installed package, the git commit and diff, and the hardware. No variable's value."""
    versions = {d.name: d.version for d in importlib.metadata.distributions() if d.name}
    return {
        "python": platform.python_version(),
        "packages": dict(sorted(versions.items(), key=lambda item: item[0].lower())),
        "git": _git(),
        "hardware": _hardware(),
    }


def _git() -> dict[str, str] | None:
    """Return commit and uncommitted diff of the folder the run was started from, if it is a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "diff": git("diff", "HEAD")}
    except (OSError, subprocess.SubprocessError):
        return None


def _hardware() -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": devices,
        "cuda": torch.version.cuda,
    }

"""Seals checkpoints, and finds the newest that is whole: the seal, written last, says what the folder must hold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignzoo.system.files import put_in_place, remove_unfinished
from alignzoo.system.seal import Damaged, check_seal, write_seal

SEAL = "checkpoint.json"
UNFINISHED = ".saving"  #: the folder in which the next checkpoint is written before it gets its name
PREFIX = "checkpoint-"  #: transformers' name; the step follows

#: What a seal says of the run that wrote it, beside ``files`` -> its type; without one of them nothing resumes.
FACTS: dict[str, type] = {
    "step": int,
    **dict.fromkeys(("config", "data", "start", "device", "versions", "spent"), dict),
}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole."""

    folder: Path
    step: int
    facts: Mapping[str, Any]
    """Of the run that wrote it: ``config``, ``data``, ``start``, ``versions``, and ``spent``."""


def folder_of(root: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return root / f"{PREFIX}{step}"


def seal(folder: Path, step: int, facts: Mapping[str, Any]) -> None:
    """Bring every file to the disk and write the seal: sizes and SHA-256 of all files, and ``facts``."""
    write_seal(folder, SEAL, {"step": step, **facts}, to_disk=True)


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with the checkpoint in ``folder``, or None if it holds what its seal says."""
    try:
        _read(folder)
    except Damaged as damage:
        return str(damage)
    return None


def find_newest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest whole checkpoint below ``root``, and why each newer one is skipped."""
    skipped: list[str] = []
    for step, folder in sorted(_steps(root), reverse=True):
        try:
            return Checkpoint(folder, step, _read(folder)), skipped
        except Damaged as damage:
            skipped.append(f"{folder.name} is skipped: {damage}")
    return None, skipped


def tidy(root: Path) -> None:
    """Finish or remove what a run left that was killed while it saved."""
    for _, aside in _steps(root / UNFINISHED):
        target = root / aside.name
        if find_damage(aside) is None and (not target.exists() or find_damage(target) is not None):
            put_in_place(aside, target)
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)
    remove_unfinished(root)


def prune(root: Path, limit: int | None, best: Path | None = None) -> None:
    """Remove the oldest until ``limit`` are left; the newest and ``best`` always stay. None or 0: keep all."""
    folders = [folder for _, folder in sorted(_steps(root))]
    if not limit or limit < 0 or not folders:
        return
    kept = {folders[-1]} | ({best} if best in folders else set())
    spare = max(0, limit - len(kept))
    others = [folder for folder in folders if folder not in kept]
    for folder in others[: len(others) - spare]:
        (folder / SEAL).unlink(missing_ok=True)  # half removed, it does not count
        shutil.rmtree(folder)


def measure_newest(root: Path) -> int | None:
    """Return the bytes of the newest checkpoint, or None where there is none."""
    folders = [folder for _, folder in sorted(_steps(root))]
    if not folders:
        return None
    return sum(path.stat().st_size for path in folders[-1].rglob("*") if path.is_file())


def _steps(root: Path) -> list[tuple[int, Path]]:
    if not root.is_dir():
        return []
    named = ((path.name.removeprefix(PREFIX), path) for path in root.iterdir() if path.name.startswith(PREFIX))
    return [(int(number), path) for number, path in named if re.fullmatch("[0-9]+", number) and path.is_dir()]


def _read(folder: Path) -> dict[str, Any]:
    """Return the facts of the checkpoint in ``folder``.

    Raises:
        Damaged: it is not what its seal says, or the seal says too little to resume from it.
    """
    facts = check_seal(folder, SEAL)
    for name, kind in FACTS.items():
        if not isinstance(facts.get(name), kind):
            raise Damaged(f"{SEAL} does not say its {name}")
    resumed, seconds = (facts["spent"].get(name) for name in ("resumed", "train_seconds"))
    if not isinstance(resumed, list) or not isinstance(seconds, int | float):
        raise Damaged(f"{SEAL} does not say how long it trained")
    if folder.name != f"{PREFIX}{facts['step']}":
        raise Damaged(f"{SEAL} is that of step {facts['step']}")
    return facts

"""Seals checkpoints, and finds the newest that is whole: the seal, written last, says what the folder must hold."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignzoo.system.files import put_in_place, write_atomically

SEAL = "checkpoint.json"
UNFINISHED = ".saving"  #: the folder in which the next checkpoint is written before it gets its name
PREFIX = "checkpoint-"  #: transformers' name; the step follows


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
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
    with write_atomically(folder / SEAL) as aside, aside.open("w", encoding="utf-8") as stream:
        json.dump({"step": step, **facts, "files": files}, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with the checkpoint in ``folder``, or None if it holds what its seal says."""
    try:
        files = _read(folder)["files"]
        expected = {name: (file["bytes"], file["sha256"]) for name, file in files.items()}
    except FileNotFoundError:
        return f"it has no {SEAL}, so it was not written to its end"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{SEAL} cannot be read"
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes of {size:,}"
        if _hash(path) != digest:
            return f"{name} is not what was written"
    return None


def find_newest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest whole checkpoint below ``root``, and why each newer one is skipped."""
    skipped: list[str] = []
    for step, folder in sorted(_steps(root), reverse=True):
        reason = find_damage(folder)
        if reason is None:
            facts = _read(folder)
            return Checkpoint(folder, step, {name: facts[name] for name in facts if name != "files"}), skipped
        skipped.append(f"{folder.name} is skipped: {reason}")
    return None, skipped


def tidy(root: Path) -> None:
    """Finish or remove what a run left that was killed while it saved."""
    for _, aside in _steps(root / UNFINISHED):
        target = root / aside.name
        if find_damage(aside) is None and (not target.exists() or find_damage(target) is not None):
            put_in_place(aside, target)
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)


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
    return [(int(number), path) for number, path in named if number.isdigit() and path.is_dir()]


def _read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    return content


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""Seals folders with the size and SHA-256 of each of their files, and tells whether one is as it was written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignzoo.system.files import write_atomically


class Damaged(Exception):
    """A folder is not what its seal says; the text says in a few words why."""


def write_seal(folder: Path, name: str, facts: Mapping[str, Any], to_disk: bool = False) -> None:
    """Write ``facts``, and sizes and SHA-256 of all files, into ``name``: last of all, so that a seal means a whole.

    ``to_disk``: wait until the disk has every file, so that a power failure takes none of them back.
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / name):
        if to_disk:
            _sync(path)
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _hash(path)}
    seal = {**facts, "files": files}
    with write_atomically(folder / name) as aside:
        aside.write_text(json.dumps({**seal, "sha256": _hash_json(seal)}, indent=1), encoding="utf-8")
        if to_disk:
            _sync(aside)


def check_seal(folder: Path, name: str) -> dict[str, Any]:
    """Return the facts in the seal ``name`` of ``folder``, which holds what the seal says, and perhaps more.

    Raises:
        Damaged: the seal is missing or was changed, or one of its files was.
    """
    seal = _read_seal(folder, name)
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for file, sealed in seal.pop("files").items():
        if file not in there:
            raise Damaged(f"{file if file.isprintable() else 'a file'} is missing")
        _compare(there[file], file, sealed if isinstance(sealed, dict) else {})
    return seal


def _read_seal(folder: Path, name: str) -> dict[str, Any]:
    try:
        seal = json.loads((folder / name).read_text(encoding="utf-8"))
        if not isinstance(seal, dict) or not isinstance(seal.get("files"), dict) or not seal["files"]:
            raise ValueError("it lists no files")
        is_whole = seal.pop("sha256", None) == _hash_json(seal)
    except FileNotFoundError:
        raise Damaged(f"it has no {name}, so it was not written to its end") from None
    except (OSError, ValueError, RecursionError):  # brackets within brackets
        raise Damaged(f"{name} cannot be read") from None
    if not is_whole:
        raise Damaged(f"{name} is not what was written")
    return seal


def _compare(path: Path, name: str, sealed: Mapping[str, Any]) -> None:
    try:
        size, wanted = path.stat().st_size, sealed.get("bytes")
        if size != wanted:
            of = f" of {wanted:,}" if isinstance(wanted, int) else ", and its seal says no size"
            raise Damaged(f"{name} has {size:,} bytes{of}")
        if _hash(path) != sealed.get("sha256"):
            raise Damaged(f"{name} is not what was written")
    except OSError as error:  # the disk cannot read it any more, or it went away meanwhile
        raise Damaged(f"{name} cannot be read ({error.strerror})") from None


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _hash_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())

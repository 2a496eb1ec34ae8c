"""Names a saved model by its content, so that a copy in another folder is the same model."""

from __future__ import annotations

import functools
from pathlib import Path

from alignzoo.system.files import hash_files

#: Endings of the files of a model's folder that decide what it says; a model card does not.
DECIDING = (".safetensors", ".json", ".model", ".txt", ".jinja", ".py")


def hash_model(folder: Path) -> str:
    """Return the SHA-256 of the weights, configuration and tokenizer in ``folder``; a process reads a model once."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix in DECIDING)
    return _hash(tuple((file, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]))


@functools.lru_cache(maxsize=8)
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    return hash_files(file for file, _, _ in files)

"""Averages the weights of models that share an architecture (model soups: Wortsman et al., 2022)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.models.whole import WEIGHTS, copy_rest, read_weights, write_weights
from alignzoo.system.errors import UserError
from alignzoo.system.parsing import parse_file

if TYPE_CHECKING:
    from torch import Tensor

#: Files that must be equal in all models: the same ids mean the same tokens, in the same template.
EQUAL = ("tokenizer.json", "tokenizer.model", "chat_template.jinja")

#: Keys of config.json that say nothing of the weights.
IGNORED = ("transformers_version", "_name_or_path", "use_cache", "dtype", "torch_dtype")


def write_average(folders: Mapping[str, Path], made: Path, shard_size: int) -> None:
    """Write the model whose every weight is the mean of the weights of ``folders`` into the folder ``made``.

    The mean is computed in float32 and written in the first model's dtype; its configuration and tokenizer are those
    of the first one.

    Args:
        folders: the name of each model, for messages -> its folder, with a whole model.
        made: an empty folder.
        shard_size: largest file of weights, in bytes.

    Raises:
        UserError: the models differ in architecture, in tokenizer, or in a tensor's name or shape.
    """
    _check_alike(folders)
    tensors = [read_weights(folder) for folder in folders.values()]
    names = [*folders]
    for name, other in zip(names[1:], tensors[1:], strict=True):
        if different := sorted(tensors[0].keys() ^ other.keys()):
            raise UserError(f"{names[0]} and {name} have other weights: {different[0]} is in one of them alone.")
    mean = {key: _average(key, [found[key] for found in tensors], names) for key in tensors[0]}
    write_weights(made, mean, shard_size)
    copy_rest(folders[names[0]], made)


def hash_weights(folder: Path) -> str:
    """Return a SHA-256 of the files with a model's weights."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob(WEIGHTS)):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _check_alike(folders: Mapping[str, Path]) -> None:
    (first, folder), *others = folders.items()
    config = _read_config(folder)
    for name, other in others:
        found = _read_config(other)
        if different := sorted(key for key in config.keys() | found.keys() if config.get(key) != found.get(key)):
            raise UserError(f"{first} and {name} are other models: {different[0]} of their config.json differs.")
        for file in EQUAL:
            if _read_bytes(folder / file) != _read_bytes(other / file):
                raise UserError(f"{first} and {name} have another {file}: the same ids would not mean the same tokens.")


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = parse_file(folder / "config.json", json.loads)
    return {key: value for key, value in config.items() if key not in IGNORED}


def _read_bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _average(key: str, tensors: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """Return the mean of tensors of one shape, in the first one's dtype; one of whole numbers must be equal in all.

    Raises:
        UserError: they differ in shape, or the mean is not finite.
    """
    import torch

    first = tensors[0]
    for name, tensor in zip(names[1:], tensors[1:], strict=True):
        whole_numbers_differ = not first.is_floating_point() and not torch.equal(first, tensor)
        if tensor.shape != first.shape or whole_numbers_differ:
            raise UserError(f"{names[0]} and {name} cannot be averaged: {key} differs in shape or whole numbers.")
    if not first.is_floating_point():
        return first
    mean = torch.stack([tensor.float() for tensor in tensors]).mean(0)
    if not mean.isfinite().all():
        raise UserError(f"{key} of one of the models is not finite: its training has diverged.")
    return mean.to(first.dtype)

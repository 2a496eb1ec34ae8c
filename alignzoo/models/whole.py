"""Finds whole models: an adapter is merged into its base model, large files of weights are divided into shards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.config.compose import compose
from alignzoo.models.pretrained import RemoteCode
from alignzoo.models.start_model import HUB_FILES, find_further, identity, make_once
from alignzoo.runs import checkpoint
from alignzoo.system import cache
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model*.safetensors"  #: transformers' names of the files with a whole model's weights

#: Files that lie in a model's folder, and say nothing of it: seals, a checkpoint's state, the index of other shards.
NOT_A_MODELS = {cache.SEAL, checkpoint.SEAL, "trainer_state.json", "model.safetensors.index.json"}


def find_whole(word: str, code: RemoteCode) -> Path:
    """Return the folder of a whole model: that of a run, a folder or a hub id; of an adapter, one with it merged.

    Raises:
        UserError: it is not there, or comes with code that may not run.
    """
    cfg = compose(["model=local"]).model
    cfg.trust_remote_code = code.allowed
    try:
        return find_further(cfg, word)
    except UserError as error:
        text = str(error).removeprefix("model.path=").replace("model.trust_remote_code=true", code.switch)
        raise UserError(text) from error


def find_sharded(folder: Path, size: int) -> Path:
    """Return a folder with the model of ``folder`` whose files of weights have at most ``size`` bytes each.

    The tensors are the same ones under the same names; one that is larger than ``size`` has a file of its own.
    ``folder`` itself, where its files are small enough.
    """
    files = sorted(folder.glob(WEIGHTS))
    if all(file.stat().st_size <= size for file in files):
        return folder
    name = f"{folder.parent.name}-shards-{size}-{identity(folder)[:12]}"
    return make_once(name, lambda made: write_whole(folder, made, size), sum(file.stat().st_size for file in files))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights in a whole model's folder by their names."""
    from safetensors.torch import load_file

    return {name: weight for file in sorted(folder.glob(WEIGHTS)) for name, weight in load_file(file).items()}


def write_weights(folder: Path, weights: Mapping[str, Tensor], size: int) -> None:
    """Write weights as transformers does: one file, or shards of at most ``size`` bytes and their index."""
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(dict(weights), folder, max_shard_size=size)


def copy_rest(folder: Path, made: Path) -> None:
    """Copy the files of a model's folder but for its weights and its card: configuration, tokenizer, template, code."""
    left_out = {file.name for file in folder.glob(WEIGHTS)} | NOT_A_MODELS
    for file in sorted({file for pattern in HUB_FILES for file in folder.glob(pattern)}):
        if file.is_file() and file.name not in left_out:
            shutil.copy2(file, made)


def write_whole(folder: Path, made: Path, size: int) -> None:
    """Write the whole model of ``folder`` into the empty folder ``made``, in files of at most ``size`` bytes."""
    write_weights(made, read_weights(folder), size)
    copy_rest(folder, made)

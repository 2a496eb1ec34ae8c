"""Reads rows that a model's own answers were made into, in the place of the dataset's training rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from alignzoo.data.sources import Source, open_source
from alignzoo.runs.generation import ROWS, read_generation

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: Why a row of the dataset is not trained on that is neither held out nor for validation.
REPLACED = "dataset.generated is trained on in its place"

#: The keys of `dataset` that say how its own rows are laid out, which says nothing of generated ones.
NEUTRAL = {"columns": None, "roles": None, "layout": None, "chat": False}


def generated_source(cfg: DictConfig) -> tuple[Source, DictConfig] | None:
    """Return the rows of ``dataset.generated`` and the keys to read them by; None where there are none.

    ``cfg`` is the group ``dataset``.

    Raises:
        UserError: the folder is not that of a finished generation.
    """
    if cfg.get("generated") is None:
        return None
    named = f"dataset.generated={cfg.generated}"
    folder = Path(cfg.generated).expanduser()
    read_generation(folder, named)
    source = open_source(str(folder / ROWS), "train", None, None, named)
    own: DictConfig = OmegaConf.merge(cfg, NEUTRAL)  # type: ignore[assignment]
    return replace(source, place=f"{folder.resolve().name}/{ROWS}"), own

"""Opens the sources of rows: the hub, files, a folder, or a package's data."""

from __future__ import annotations

import glob
import importlib.resources
import importlib.util
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alignzoo.config.plain import to_plain
from alignzoo.data.files import FORMATS, Row, drop_absent, format_of, read
from alignzoo.system.errors import UserError, did_you_mean, explain_missing
from alignzoo.system.files import hash_files
from alignzoo.system.hub import explain_hub_error, hub, is_local_path

#: Files that `Dataset.save_to_disk` writes beside the rows.
METADATA_FILES = {"state.json", "dataset_info.json", "dataset_dict.json"}

#: Rows that are measured and not trained on, as keys of `dataset`; where both could have a prompt, the first has it.
MEASURED = ("heldout", "validation")


@dataclass(frozen=True)
class Source:
    """A table of rows that can be read from its start any number of times."""

    place: str
    """What to call it in a message: a file or hub id, with its split."""

    identity: str
    """Changes whenever the content does: hash of the files, or hub id, revision and split."""

    rows: Callable[[], Iterator[Row]]


def training_sources(cfg: DictConfig) -> list[tuple[Source, DictConfig]]:
    """Return the sources of ``dataset``'s training rows, each with its own keys: one, or those of ``dataset.mix``."""
    parts = _read_parts(cfg) if cfg.mix else [cfg]
    key = "dataset.mix: path" if cfg.mix else "dataset.path"
    found = [(open_source(p.path, p.split, p.config, p.revision, key, p.first), p) for p in parts]
    for number, (source, _) in enumerate(found):
        if any(source.identity == other.identity for other, _ in found[:number]):
            raise UserError(f"dataset.mix: {source.place} stands there twice: give it one weight.")
    _check_weights([(source.place, part.get("weight")) for source, part in found])
    return found


def _check_weights(parts: list[tuple[str, Any]]) -> None:
    if all(weight is None for _, weight in parts):
        return
    for place, weight in parts:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
            raise UserError(
                f"dataset.mix: the weight of {place} is {weight}; if one part has a weight, each needs one."
            )
    if not any(weight for _, weight in parts):
        raise UserError("dataset.mix: every weight is 0, so that no row is left.")


def _read_parts(cfg: DictConfig) -> list[DictConfig]:
    """Return the parts of ``dataset.mix``, each with the dataset's keys where it has none of its own."""
    whole = ("mix", "rows", "generated", *MEASURED)
    ours = {str(key): value for key, value in to_plain(cfg).items() if key not in whole}
    parts: list[Any] = to_plain(cfg.mix)
    for part in parts:
        if not isinstance(part, dict):
            raise UserError(f"dataset.mix: {part} is not a mapping: write {{path: {part}, weight: 1}}.")
        for key in part:
            if key not in ours and key != "weight":
                raise UserError(f"dataset.mix: unknown key {key!r}.{did_you_mean(str(key), [*ours, 'weight'])}")
    return [OmegaConf.create({**ours, "weight": None, **part}) for part in parts]


def measured_source(cfg: DictConfig, side: str) -> Source | None:
    """Return the source of the rows of a ``side`` of :data:`MEASURED`, or None where they are training rows."""
    own = cfg[side]
    if own.path is not None:
        return open_source(own.path, own.split or "train", None, None, f"dataset.{side}.path")
    if own.split is not None:
        return open_source(cfg.path, own.split, cfg.config, cfg.revision, f"dataset.{side}.split")
    return None


def find_beside(path: Any) -> str | None:
    """Return the path of the file of validation rows that stands beside a file ``train``, as in ours, or None."""
    beside = re.sub(r"(^|/)train(\.\w+)$", r"\1validation\2", path) if isinstance(path, str) else path
    files = _find_files(beside, "train") if beside != path else None
    return beside if files and all(file.is_file() for file in files) else None


def open_source(
    path: Any, split: str, config: str | None, revision: str | None, key: str, first: int | None = None
) -> Source:
    """Return the source at ``path``: package://, a file, a glob, a folder, a list of files, or a hub id.

    ``first`` bounds the rows read: a hub dataset is then streamed, and never downloaded whole.

    Raises:
        UserError: nothing is there, or a file has no known ending.
    """
    if path is None:
        raise UserError(f"{key} is needed: a file, a folder, or a hub id.")
    files = _find_files(path, split)
    if files is None:
        return _open_hub(str(path), split, config, revision, key, first)
    if not files:
        raise UserError(f"{key}={path}: no such file.{explain_missing(str(path))}")
    for file in files:
        if not file.is_file():
            raise UserError(f"{key}: {file} does not exist.{explain_missing(file)}")
        if format_of(file) not in FORMATS.values():
            known = f"{', '.join(FORMATS)} (.json, .jsonl, .csv also .gz, .zst)"
            raise UserError(f"{key}: {file.name} must be one of {known}.")
    place = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
    rows = lambda: itertools.islice((row for file in files for row in read(file)), first)  # noqa: E731
    return Source(place, f"{hash_files(files)}/{first}", rows)


def _find_files(path: Any, split: str) -> list[Path] | None:
    """Return the files that ``path`` names, or None where it looks like a hub id."""
    if not isinstance(path, str):
        return [file for part in path for file in _find_files(part, split) or [Path(part)]]
    if path.startswith("package://"):
        package, _, name = path.removeprefix("package://").partition("/")
        there = importlib.util.find_spec(package.split(".")[0]) and importlib.util.find_spec(package)
        return [Path(str(importlib.resources.files(package).joinpath(name)))] if there else []
    local = Path(path).expanduser()
    if local.is_dir():
        found = sorted(file for file in local.rglob("*") if format_of(file) and file.name not in METADATA_FILES)
        return [file for file in found if split in re.split(r"[\W_]+", file.stem)] or found
    if local.is_file():
        return [local]
    if glob.has_magic(path):
        return [Path(name) for name in sorted(glob.glob(str(local)))]
    return [] if format_of(local) or is_local_path(path) else None


def _open_hub(path: str, split: str, config: str | None, revision: str | None, key: str, first: int | None) -> Source:
    import datasets

    try:
        streamed = first is not None
        with hub().reading(path):
            table = datasets.load_dataset(path, config, split=split, revision=revision, streaming=streamed)
    except Exception as error:  # the hub's client raises a dozen kinds
        raise UserError(f"{key}={path} (split {split}): {explain_hub_error(error)}") from error
    content = table.info.version if streamed else table._fingerprint
    identity = f"{path}@{revision}/{config}/{split}/{content}/{first}"
    return Source(f"{path} ({split})", identity, lambda: map(_drop_absent, itertools.islice(iter(table), first)))


def _drop_absent(row: dict[str, Any]) -> dict[str, Any]:
    return {name: drop_absent(value) for name, value in row.items()}

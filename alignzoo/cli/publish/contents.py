"""Collects what is published of a run: the model, its card and its configuration, and nothing secret."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from alignzoo.cli.manifest import read_manifest
from alignzoo.config.plain import flatten
from alignzoo.config.secrets import SECRET_KEY, hide_home, hide_in_text, mask
from alignzoo.models.pretrained import RemoteCode
from alignzoo.models.start_model import HUB_FILES
from alignzoo.models.whole import find_sharded, find_whole
from alignzoo.plugin.registry import registry
from alignzoo.report.model_card import FILE, Training, make_card
from alignzoo.runs.folder import CONFIG
from alignzoo.system import cache
from alignzoo.system.errors import UserError
from alignzoo.system.hub import find_snapshot
from alignzoo.system.parsing import parse_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method
    from alignzoo.runs.folder import Run

ADAPTER = "adapter_config.json"

#: Files that hold the tokens of a vocabulary, among which some may look like secrets.
VOCABULARY = ("tokenizer.json", "vocab.*", "merges.txt", "*.model", "*.safetensors")


@dataclass(frozen=True)
class Contents:
    """What is published."""

    files: Mapping[str, Path | bytes]
    """Name -> the file, or its bytes where it is made for the hub."""

    left_out: tuple[str, ...]
    """Names of the files of the model's folder that are not sent."""

    def measure(self, name: str) -> int:
        """Return the bytes of the file ``name``."""
        content = self.files[name]
        return len(content) if isinstance(content, bytes) else content.stat().st_size


def collect(run: Run, name: str, merge: bool, shard_size: int, code: RemoteCode) -> Contents:
    """Return what is published of ``run`` under ``name``.

    ``merge``: an adapter is merged into its base model; ``shard_size``: the largest file of weights, in bytes.

    Raises:
        UserError: the run has not finished, holds no model, its adapter's base model is not on the hub, or a file holds
            a secret.
    """
    result, cfg, saved = run.read_result(), run.load_config(), run.folder / "model"
    is_adapter = (saved / ADAPTER).is_file()
    if not is_adapter and not (saved / "config.json").is_file():
        raise UserError(f"{run.folder} holds no trained model.")
    if merge and not is_adapter:
        raise UserError(f"--merge: {run.folder} holds no adapter but a whole model. Leave --merge out.")
    folder = find_whole(str(run.folder), code) if merge else saved
    folder = find_sharded(folder, shard_size)
    sent = sorted(file for file in folder.iterdir() if _is_sent(file))
    for file in sent:
        _refuse_secret(file)
    files: dict[str, Path | bytes] = {file.name: file for file in sent}
    if is_adapter and not merge:
        files[ADAPTER] = _name_base(saved / ADAPTER, run.folder)
    training = Training(run, cfg, _find_method(cfg), result, read_manifest(run.folder), len(run.lines))
    files[FILE] = make_card(training, name, is_adapter and not merge).encode()
    files[CONFIG] = _mask_config(run.folder / CONFIG)
    left_out = sorted(path.name for path in saved.iterdir() if not _is_sent(path) and path.name != FILE)
    return Contents(files, tuple(left_out))


def _is_sent(file: Path) -> bool:
    known = any(fnmatch(file.name, pattern) for pattern in HUB_FILES)
    return file.is_file() and known and not file.name.startswith(".") and file.name != cache.SEAL


def _find_method(cfg: DictConfig) -> type[Method] | None:
    try:
        return registry().method(cfg.method.name)
    except UserError:  # of a plugin that is not installed
        return None


def _mask_config(file: Path) -> bytes:
    """Return the configuration, masked once more: a hand may have been at it since it was written."""
    read = OmegaConf.create(file.read_text(encoding="utf-8"))
    return hide_home(OmegaConf.to_yaml(mask(OmegaConf.to_container(read, resolve=False)))).encode()


def _name_base(file: Path, run: Path) -> bytes:
    """Return an adapter's configuration with its base model's hub id and commit, in place of a folder of this machine.

    Raises:
        UserError: the base model does not come from the hub.
    """
    settings: dict[str, Any] = parse_file(file, json.loads)
    base = find_snapshot(str(settings.get("base_model_name_or_path")))
    if base is None:
        raise UserError(
            f"{run} holds an adapter whose base model is not on the hub ({settings.get('base_model_name_or_path')}): "
            "nobody else could load it.\nAdd --merge, to publish the whole model."
        )
    named = {"base_model_name_or_path": base[0], "revision": base[1]}
    return (json.dumps({**settings, **named}, indent=2, sort_keys=True) + "\n").encode()


def _refuse_secret(file: Path) -> None:
    """Refuse a file of settings, a template or code that holds what looks like a secret."""
    if any(fnmatch(file.name, pattern) for pattern in VOCABULARY):
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    keys = list(_list_secret_keys(parse_file(file, json.loads))) if file.suffix == ".json" else []
    if keys or hide_in_text(text) != text:
        where = f"under {keys[0]}" if keys else "in its text"
        raise UserError(f"{file} holds what looks like a secret, {where}. Remove it, and publish again.")


def _list_secret_keys(settings: Any) -> Iterator[str]:
    for key, value in flatten(settings).items() if isinstance(settings, dict) else ():
        if SECRET_KEY.search(f".{key}") and isinstance(value, str) and value:
            yield key

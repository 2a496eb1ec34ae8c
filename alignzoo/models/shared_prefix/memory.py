"""Remembers in the cache which way was faster, by all that the answer depends on."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignzoo.system import cache

FOLDER = "speed"  #: of the cache

#: Packages whose versions decide how fast a pass is.
PACKAGES = ("alignzoo", "torch", "transformers", "peft")

#: Keys of a model's config that change no pass; TRL sets `use_cache`, and a folder may be moved.
UNRELATED = {"_name_or_path", "use_cache", "transformers_version"}

Key = Sequence[Any]


def describe_machine(device: torch.device) -> list[Any]:
    """Return the device, as it is told, and the versions."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        threads = torch.get_num_threads()
        name = f"a CPU with {threads} thread{'s' if threads > 1 else ''}"
    return [name, platform.machine(), [importlib.metadata.version(package) for package in PACKAGES]]


def describe_model(backbone: Any) -> list[Any]:
    """Return the kind of a model: its architecture, what trains, and in which precision it is computed now."""
    config = {name: value for name, value in backbone.config.to_dict().items() if name not in UNRELATED}
    weight = next(backbone.parameters())
    kind = weight.device.type
    cast = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None
    trained = sum(each.numel() for each in backbone.parameters() if each.requires_grad)
    checkpointing = any(getattr(module, "gradient_checkpointing", False) for module in backbone.modules())
    return [type(backbone).__name__, config, str(weight.dtype), cast, trained, checkpointing]


def describe_batch(ids: Tensor, tokens: int) -> list[int]:
    """Return the shape of a padded batch, (rows, width): rows, width in powers of two, quarters that sharing leaves."""
    rows, width = ids.shape
    return [rows, (width - 1).bit_length(), round(4 * tokens / ids.numel())]


def recall(keys: Sequence[Key]) -> dict[str, Any] | None:
    """Return what was kept under the first of ``keys`` that has something."""
    return next((found for key in keys if (found := _read(_find_file(key)))), None)


def keep(keys: Sequence[Key], value: dict[str, Any]) -> dict[str, Any]:
    """Keep a value under those of ``keys`` that have none; return the first's, which another process may have kept."""
    with contextlib.suppress(OSError):  # a full disk: the training goes on with what it has found
        for key in keys:
            file = _find_file(key)
            if _read(file) is None:
                _write_first(file, json.dumps(value))
    return _read(_find_file(keys[0])) or value


def _write_first(file: Path, text: str) -> None:
    """Write a whole file, unless another process was first."""
    aside = file.with_name(f".{uuid.uuid4().hex}")
    aside.write_text(text, encoding="utf-8")
    try:
        file.hardlink_to(aside)
    except FileExistsError:
        if _read(file) is None:  # damaged, or another version's
            aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _find_file(key: Key) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return cache.make_folder(FOLDER) / f"{digest[:32]}.json"


def _read(file: Path) -> dict[str, Any] | None:
    """Return a choice's fields, or None where there are none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and isinstance(found.get("shares"), bool) and isinstance(found.get("reason"), str)
    return {"shares": found["shares"], "reason": found["reason"]} if whole else None

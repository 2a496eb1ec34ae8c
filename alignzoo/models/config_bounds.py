"""Refuses configurations that describe more layers than any model has: to make them takes hours and all memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alignzoo.system.errors import UserError

LAYERS = 512  #: the most that a config.json may say; the deepest public language models have 126
SURPLUS = 64  #: layers from which on they are compared with those of the weights
_COUNTS_LAYERS = re.compile("(^|_)layers?$")
_NUMBER = re.compile(r"\.(\d+)\.")


def check_config(source: str | Path, **more: Any) -> None:
    """Refuse the config.json of the folder, or of the hub id, ``source``; one that is not there or broken is left.

    Raises:
        UserError: it says more than :data:`LAYERS` layers, or far more than the folder's weights have.
    """
    if "gguf_file" in more:  # it says what it holds itself
        return
    config = _read_config(source, more)
    for key, layers in _list_layers(config):
        if layers > LAYERS:
            raise UserError(f"{source}: config.json says {key}={layers:,}; at most {LAYERS} layers are made.")
        stored = _count_stored(Path(source)) if layers > SURPLUS and Path(source).is_dir() else 0
        if stored and layers > 4 * stored:
            raise UserError(
                f"{source}: config.json says {key}={layers}, and the weights hold {stored} layers: the others would be "
                "random. Take its own config.json."
            )


def _read_config(source: str | Path, more: Mapping[str, Any]) -> Any:
    from transformers import PretrainedConfig

    try:
        file = Path(source) / "config.json"
        if file.is_file():
            return json.loads(file.read_text(encoding="utf-8"))
        return PretrainedConfig.get_config_dict(str(source), **more)[0]
    except RecursionError:
        raise UserError(f"{source}: config.json cannot be read: it is nested too deeply.") from None
    except Exception:  # of a dozen kinds: whoever loads it says what is wrong
        return {}


def _list_layers(config: Any) -> Iterator[tuple[str, int]]:
    """Yield the numbers of layers that a configuration says, also of the models within."""
    for key, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, dict):
            yield from _list_layers(value)
        elif _COUNTS_LAYERS.search(key) and isinstance(value, int):
            yield key, value


def _count_stored(folder: Path) -> int:
    """Return the largest number among the names of the weights, and one: their layers; 0 where no name has one."""
    from safetensors import safe_open

    names: list[str] = []
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, "pt") as weights:
                names += weights.keys()
        except Exception:  # of a kind of its own; whoever loads it says what is wrong
            return 0
    return max((int(number) + 1 for name in names for number in _NUMBER.findall(name)), default=0)

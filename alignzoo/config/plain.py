"""Turns a configuration into plain Python values: OmegaConf's containers leak into JSON and TRL's configs otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf


def to_plain(cfg: Any) -> Any:
    """Return ``cfg`` as dicts, lists and scalars, with every interpolation resolved and nothing missing."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True) if OmegaConf.is_config(cfg) else cfg


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, ``{"method": {"beta": 0.1}}`` as ``{"method.beta": 0.1}``; empty ones stay."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inside = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{key}.") if inside else {f"{prefix}{key}": value}
    return flat

"""Configuration as plain Python: OmegaConf's containers leak into JSON and TRL's configs otherwise."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf


def plain(cfg: Any) -> Any:
    """Return ``cfg`` as dicts, lists and scalars, with every interpolation resolved and nothing missing."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True) if OmegaConf.is_config(cfg) else cfg

"""The config that a list of overrides composes, for subcommands; the command line itself leaves this to Hydra."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from alignzoo.config import search_path


def composed(overrides: Sequence[str], hydra: bool = False) -> DictConfig:
    """Return the config that ``python -m alignzoo OVERRIDES`` would run; its ``hydra`` node only if asked for."""
    search_path.install()
    GlobalHydra.instance().clear()
    with initialize_config_module("alignzoo_conf", version_base="1.3"):
        cfg: DictConfig = compose("config", overrides=list(overrides), return_hydra_config=hydra)
    return cfg

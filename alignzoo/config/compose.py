"""Composes configurations with Hydra, out of alignzoo's config groups and those that plugins ship."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from alignzoo.config.hydra_patches import patch_hydra
from alignzoo.plugin.registry import registry

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath
    from omegaconf import DictConfig


class PluginConfigs(SearchPathPlugin):
    """Appends each plugin's config packages to the search path, so that they add options and shadow none of ours.

    Registered by hand and not placed in the ``hydra_plugins`` namespace, where it would change every Hydra app of the
    environment.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append, in the order of the plugins' names."""
        for plugin, package in registry().config_packages:
            search_path.append(provider=plugin.origin, path=f"pkg://{package}")


def prepare_hydra() -> None:
    """Make Hydra use :class:`PluginConfigs` in this process, and patch it. Safe to call twice."""
    patch_hydra()
    Plugins.instance().register(PluginConfigs)


def compose(overrides: Sequence[str], with_hydra: bool = False, name: str = "config") -> DictConfig:
    """Return the config that ``python -m alignzoo OVERRIDES`` would run; its ``hydra`` node only if asked for.

    ``name``: another file to compose, such as ``judge/rule``.
    """
    prepare_hydra()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("alignzoo_conf", version_base="1.3"):
        cfg: DictConfig = hydra.compose(name, overrides=list(overrides), return_hydra_config=with_hydra)
    return cfg

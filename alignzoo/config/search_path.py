"""Lets Hydra see the config groups that plugins ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from alignzoo.config.hydra_patches import mend
from alignzoo.plugin.registry import registry

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath


class PluginConfigs(SearchPathPlugin):
    """Appends each plugin's config packages to the search path, so that they add options and shadow none of ours.

    Registered by hand and not placed in the ``hydra_plugins`` namespace, where it would change every Hydra app of the
    environment.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append, in the order of the plugins' names."""
        for plugin, package in registry().config_packages:
            search_path.append(provider=plugin.origin, path=f"pkg://{package}")


def install() -> None:
    """Make Hydra use :class:`PluginConfigs` in this process, and mend it. Safe to call twice."""
    mend()
    Plugins.instance().register(PluginConfigs)

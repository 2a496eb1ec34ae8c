"""Lists the options of every config group: the YAML files of alignzoo and of the plugins."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.resources
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from alignzoo.plugin.loading import OWN
from alignzoo.plugin.registry import Registry, registry


@dataclass(frozen=True)
class Option:
    """One option: ``method=dpo`` is group ``method``, name ``dpo``."""

    group: str
    name: str
    origin: str
    """The distribution and its version."""

    file: Traversable

    @property
    def text(self) -> str:
        """The YAML as it is written."""
        return self.file.read_text(encoding="utf-8")


def config_options() -> dict[str, dict[str, Option]]:
    """Return the options by group and name. Alignzoo's come first, then the plugins' in the order of their names.

    An option of a plugin that somebody before it has already is not used, as in Hydra; the plugin gets a remark.
    """
    return _list_options(registry())


@functools.cache
def _list_options(plugins: Registry) -> dict[str, dict[str, Option]]:
    found: dict[str, dict[str, Option]] = {}
    own = f"{OWN} {importlib.metadata.version(OWN)}"
    for option in _find_options(importlib.resources.files("alignzoo_conf"), own):
        found.setdefault(option.group, {})[option.name] = option
    for plugin, package in plugins.config_packages:
        for option in _find_options(importlib.resources.files(package), plugin.origin):
            taken = found.setdefault(option.group, {}).setdefault(option.name, option)
            if taken is not option:
                words = f"{option.group}={option.name}"
                plugins.remark(plugin, f"its {words} is not used: {taken.origin} has an option of that name")
    return found


def _find_options(folder: Traversable, origin: str, group: str = "") -> Iterator[Option]:
    for file in sorted(folder.iterdir(), key=lambda child: child.name):
        if file.is_dir() and not file.name.startswith(("_", ".")):
            yield from _find_options(file, origin, f"{group}/{file.name}".lstrip("/"))
        elif group and file.name.endswith(".yaml"):
            yield Option(group, file.name.removesuffix(".yaml"), origin, file)

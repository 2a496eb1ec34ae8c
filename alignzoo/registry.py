"""Finds the installed plugins, leaves out the broken ones, and answers which methods, rewards and judges there are."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from alignzoo import hookspecs
from alignzoo.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from alignzoo.judge import Judge
    from alignzoo.method import Method
    from alignzoo.reward import Reward

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plugin:
    """An installed plugin: its entry point, where it comes from, and what keeps it out (None: it is in use)."""

    name: str
    module: str
    distribution: str
    version: str
    problem: str | None = None

    @property
    def origin(self) -> str:
        """The distribution and its version, as pip names them."""
        return f"{self.distribution} {self.version}"


class Registry:
    """Every installed plugin, loaded; the broken and the disabled are kept by name, with the reason."""

    def __init__(self, disabled: str = "") -> None:
        """Load the plugins whose entry point names are not in ``disabled``, a comma-separated list."""
        self.manager = pluggy.PluginManager(hookspecs.PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: dict[str, Plugin] = {}
        blocked = {name.strip() for name in disabled.split(",")}
        # Sorted: entry points come in the order of sys.path otherwise, which differs between machines.
        for entry in sorted(importlib.metadata.entry_points(group=hookspecs.PROJECT), key=lambda e: e.name):
            self._add(entry, entry.name in blocked)

    def _add(self, entry: importlib.metadata.EntryPoint, blocked: bool) -> None:
        origin = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "")
        taken = self.plugins.get(entry.name)
        if taken and (taken.module, taken.distribution) == (entry.value, origin[0]):
            return  # one distribution found twice on sys.path
        name = entry.name if not taken else f"{entry.name} ({origin[0]})"
        problem = "disabled by ALIGNZOO_DISABLED_PLUGINS" if blocked else self._load(entry, name)
        if problem and not blocked:
            log.warning("plugin %s (%s %s) is left out: %s", name, *origin, problem)
        self.plugins[name] = Plugin(name, entry.value, *origin, problem)

    def _load(self, entry: importlib.metadata.EntryPoint, name: str) -> str | None:
        """Register the plugin; return why that failed, or None."""
        try:
            self.manager.register(entry.load(), name=name)
            self.manager.check_pending()  # a hook that this version does not have
        except (Exception, SystemExit) as error:  # a plugin may raise anything, and must not end the program
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return None

    def call(self, hook: str, **arguments: Any) -> Iterator[tuple[Plugin, Any]]:
        """Yield, plugin by plugin, each item that the hook returns; a plugin whose hook raises is left out."""
        for impl in getattr(self.manager.hook, hook).get_hookimpls():
            plugin = self.plugins[impl.plugin_name]
            try:
                items = list(impl.function(**{name: arguments[name] for name in impl.argnames}))
            except (Exception, SystemExit) as error:
                self._leave_out(plugin, f"{hook} raised {type(error).__name__}: {error}")
                continue
            yield from ((plugin, item) for item in items)

    def _leave_out(self, plugin: Plugin, problem: str) -> None:
        log.warning("plugin %s (%s) is left out: %s", plugin.name, plugin.origin, problem)
        self.plugins[plugin.name] = dataclasses.replace(plugin, problem=problem)
        if self.manager.has_plugin(plugin.name):
            self.manager.unregister(name=plugin.name)

    @functools.cached_property
    def methods(self) -> dict[str, tuple[type[Method], Plugin]]:
        """The methods by name, each with the plugin that adds it."""
        return self._named("alignzoo_methods", "method")

    @functools.cached_property
    def rewards(self) -> dict[str, tuple[type[Reward], Plugin]]:
        """The rewards by name, each with the plugin that adds it."""
        return self._named("alignzoo_rewards", "reward")

    @functools.cached_property
    def judges(self) -> dict[str, tuple[type[Judge], Plugin]]:
        """The judges by name, each with the plugin that adds it."""
        return self._named("alignzoo_judges", "judge")

    def _named(self, hook: str, kind: str) -> dict[str, tuple[Any, Plugin]]:
        found: dict[str, tuple[Any, Plugin]] = {}
        for plugin, item in self.call(hook):
            if not _has_name(item):
                self._leave_out(plugin, f"{hook} returned {item!r}, which is no {kind} class with a name")
                continue
            if item.name in found:
                owners = " and ".join(f"{p.name} ({p.origin})" for p in (found[item.name][1], plugin))
                raise UserError(
                    f"{kind} {item.name!r} is added by both {owners}.\n"
                    f"Uninstall one of them, or set ALIGNZOO_DISABLED_PLUGINS={plugin.name}."
                )
            found[item.name] = (item, plugin)
        return found

    def method(self, name: str) -> type[Method]:
        """Return the method called ``name``.

        Raises:
            UserError: no plugin that works adds it.
        """
        if name not in self.methods:
            raise UserError(f"method={name}: no installed plugin adds it.{self._why_missing(name, self.methods)}")
        return self.methods[name][0]

    def reward(self, name: str) -> type[Reward]:
        """Return the reward called ``name``.

        Raises:
            UserError: no plugin that works adds it.
        """
        if name not in self.rewards:
            raise UserError(f"reward={name}: no installed plugin adds it.{self._why_missing(name, self.rewards)}")
        return self.rewards[name][0]

    def judge(self, name: str) -> type[Judge]:
        """Return the judge called ``name``.

        Raises:
            UserError: no plugin that works adds it.
        """
        if name not in self.judges:
            raise UserError(f"judge={name}: no installed plugin adds it.{self._why_missing(name, self.judges)}")
        return self.judges[name][0]

    def _why_missing(self, name: str, known: dict[str, Any]) -> str:
        broken = [p for p in self.plugins.values() if p.problem]
        left_out = "".join(f"\nPlugin {p.name} ({p.origin}) is left out: {p.problem}" for p in broken)
        return did_you_mean(name, known) + left_out


def _has_name(item: Any) -> bool:
    return isinstance(item, type) and isinstance(getattr(item, "name", None), str)


@functools.cache
def registry() -> Registry:
    """Return this process's registry, made on the first call."""
    return Registry(os.environ.get("ALIGNZOO_DISABLED_PLUGINS", ""))

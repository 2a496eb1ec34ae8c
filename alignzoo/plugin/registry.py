"""Finds the installed plugins, leaves out the broken ones, and answers which methods, rewards and so on there are."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.resources
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pluggy

from alignzoo.plugin import hooks
from alignzoo.plugin.loading import (
    DISABLED,
    Plugin,
    contain,
    find_entry_points,
    load_plugin,
    read_name_and_version,
    summarise_error,
)
from alignzoo.plugin.named import GROUPS, collect_named, find_named
from alignzoo.plugin.time_limit import RUN_LIMIT, TookTooLong
from alignzoo.plugin.validate import find_fault, find_unmarked, list_items

if TYPE_CHECKING:
    import importlib.metadata

    from alignzoo.plugin.environment import Environment
    from alignzoo.plugin.judge import Judge
    from alignzoo.plugin.method import Method
    from alignzoo.plugin.reward import Reward
    from alignzoo.plugin.tool import Tool

log = logging.getLogger(__name__)

#: Hooks that only a run calls.
LIMITS = {"alignzoo_callbacks": RUN_LIMIT}


class Registry:
    """Every installed plugin, loaded; the broken and the disabled are kept by name, with the reason."""

    def __init__(self, disabled: str = "") -> None:
        """Load the plugins whose entry point names are not in ``disabled``, a comma-separated list."""
        self.manager = pluggy.PluginManager(hooks.PROJECT)
        self.manager.add_hookspecs(hooks)
        self.plugins: dict[str, Plugin] = {}
        self.remarks: dict[str, list[str]] = {}  #: by plugin: what is wrong with it although it is in use
        self.clashes: dict[tuple[str, str], str] = {}  #: (kind, name) -> who adds it, where several plugins do
        blocked = {name.strip() for name in disabled.split(",")}
        # Sorted: entry points come in the order of sys.path otherwise, which differs between machines.
        for entry in sorted(find_entry_points(), key=lambda entry: entry.name):
            self._add(entry, entry.name in blocked)

    def _add(self, entry: importlib.metadata.EntryPoint, blocked: bool) -> None:
        origin = read_name_and_version(entry.dist)
        known = self.plugins.get(entry.name)
        if known and (known.module, known.distribution) == (entry.value, origin[0]):
            return  # one distribution found twice on sys.path
        name = entry.name if not known else f"{entry.name} ({origin[0]})"
        self.plugins[name] = Plugin(name, entry.value, *origin, DISABLED if blocked else None)
        if not blocked:
            self._register(entry, self.plugins[name])

    def _register(self, entry: importlib.metadata.EntryPoint, plugin: Plugin) -> None:
        try:
            module, remarks = load_plugin(entry)
            self.manager.register(module, name=plugin.name)
            self.manager.check_pending()  # a hook that this version does not have
        except KeyboardInterrupt:
            raise
        except TookTooLong as late:
            self.leave_out(plugin, f"its import {late}")
        except BaseException as error:  # a plugin may raise anything, and must not end the program
            self.leave_out(plugin, summarise_error(error))
        else:
            unmarked = find_unmarked(module)
            if not unmarked and not self.manager.get_hookcallers(module):
                unmarked = ["has no hook: write functions marked with @hookimpl, such as alignzoo_methods"]
            self.remarks[plugin.name] = remarks + unmarked

    def call(self, hook: str, **arguments: Any) -> Iterator[tuple[Plugin, Any]]:
        """Yield, plugin by plugin, each item that the hook returns; a plugin whose hook fails is left out."""
        for impl in getattr(self.manager.hook, hook).get_hookimpls():
            plugin = self.plugins[impl.plugin_name]
            try:
                with contain(f"{hook} of plugin {plugin.name}", LIMITS.get(hook)):
                    returned = impl.function(**{name: arguments[name] for name in impl.argnames})
                    items, fault = list_items(returned)
                    fault = fault or next((text for text in (find_fault(hook, item) for item in items) if text), None)
            except KeyboardInterrupt:
                raise
            except TookTooLong as late:
                self.leave_out(plugin, f"{hook} {late}")
                continue
            except BaseException as error:
                self.leave_out(plugin, f"{hook} raised {summarise_error(error)}")
                continue
            if fault:
                self.leave_out(plugin, f"{hook} returned {fault}")
                continue
            yield from ((plugin, item) for item in items)

    def leave_out(self, plugin: Plugin, problem: str) -> None:
        """Take the plugin out of use, and say so once."""
        log.warning("plugin %s (%s) is left out: %s", plugin.name, plugin.origin, problem)
        self.plugins[plugin.name] = dataclasses.replace(plugin, problem=problem)
        self.remarks.pop(plugin.name, None)
        if self.manager.has_plugin(plugin.name):
            self.manager.unregister(name=plugin.name)

    def remark(self, plugin: Plugin, text: str) -> None:
        """Note what is wrong with a plugin that is in use; ``list`` and ``doctor`` show it."""
        if self.plugins[plugin.name].problem:
            return  # left out since, and named with the reason
        remarks = self.remarks.setdefault(plugin.name, [])
        remarks += [text] if text not in remarks else []

    @property
    def faults(self) -> list[tuple[Plugin, str]]:
        """What is wrong with plugins, broken or in use; those that the user disabled are not meant."""
        broken = [(plugin, f"left out: {plugin.problem}") for plugin in self.plugins.values() if plugin.broken]
        return broken + [(self.plugins[name], text) for name, texts in self.remarks.items() for text in texts]

    @functools.cached_property
    def config_packages(self) -> list[tuple[Plugin, str]]:
        """The import names of the plugins' config packages that are there, each with its plugin."""
        found = []
        for plugin, package in self.call("alignzoo_config_packages"):
            problem = _find_import_problem(package)
            if problem:
                text = f"its config package {package} is not used ({problem})"
                log.warning("plugin %s (%s): %s", plugin.name, plugin.origin, text)
                self.remark(plugin, text)
            else:
                found.append((plugin, package))
        return found

    @functools.cached_property
    def methods(self) -> dict[str, tuple[type[Method], Plugin]]:
        """The methods by name, each with the plugin that adds it."""
        return collect_named(self, "method")

    @functools.cached_property
    def rewards(self) -> dict[str, tuple[type[Reward], Plugin]]:
        """The rewards by name, each with the plugin that adds it."""
        return collect_named(self, "reward")

    @functools.cached_property
    def tools(self) -> dict[str, tuple[type[Tool], Plugin]]:
        """The tools by name, each with the plugin that adds it."""
        return collect_named(self, "tools")

    @functools.cached_property
    def environments(self) -> dict[str, tuple[type[Environment], Plugin]]:
        """The environments by name, each with the plugin that adds it."""
        return collect_named(self, "environment")

    @functools.cached_property
    def judges(self) -> dict[str, tuple[type[Judge], Plugin]]:
        """The judges by name, each with the plugin that adds it."""
        return collect_named(self, "judge")

    def of_group(self, group: str) -> dict[str, tuple[Any, Plugin]]:
        """Return what the options of a config group are classes of, by name: a group of :data:`~.named.GROUPS`."""
        found: dict[str, tuple[Any, Plugin]] = getattr(self, GROUPS[group].removeprefix("alignzoo_"))
        return found

    def find(self, group: str, name: str) -> Any:
        """Return the class that ``group=name`` stands for.

        Raises:
            UserError: no plugin that works adds it, or several do.
        """
        return find_named(self, group, name)

    def method(self, name: str) -> type[Method]:
        """Return the method called ``name``; raises as :meth:`find`."""
        found: type[Method] = self.find("method", name)
        return found

    def reward(self, name: str) -> type[Reward]:
        """Return the reward called ``name``; raises as :meth:`find`."""
        found: type[Reward] = self.find("reward", name)
        return found

    def tool(self, name: str) -> type[Tool]:
        """Return the tool called ``name``; raises as :meth:`find`."""
        found: type[Tool] = self.find("tools", name)
        return found

    def environment(self, name: str) -> type[Environment]:
        """Return the environment called ``name``; raises as :meth:`find`."""
        found: type[Environment] = self.find("environment", name)
        return found

    def judge(self, name: str) -> type[Judge]:
        """Return the judge called ``name``; raises as :meth:`find`."""
        found: type[Judge] = self.find("judge", name)
        return found


def _find_import_problem(package: str) -> str | None:
    """Return why Hydra could not import a config package, or None."""
    try:
        with contain(f"the import of the config package {package}"):
            if not hasattr(importlib.import_module(package), "__path__"):
                return f"{package!r} is not a package"
            folder = importlib.resources.files(package)
    except KeyboardInterrupt:
        raise
    except TookTooLong as late:
        return f"its import {late}"
    except BaseException as error:  # the packages above it run too, and are as free to fail as a plugin is
        return summarise_error(error)
    # Hydra's own launchers and sweepers stand behind every YAML: a plugin's would take their place for all commands.
    return "it has a folder hydra, whose options are Hydra's own" if folder.joinpath("hydra").is_dir() else None


@functools.cache
def registry() -> Registry:
    """Return this process's registry, made on the first call."""
    return Registry(os.environ.get("ALIGNZOO_DISABLED_PLUGINS", ""))

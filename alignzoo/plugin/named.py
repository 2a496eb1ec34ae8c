"""Collects what plugins add by name: methods, rewards, tools, environments and judges; settles who owns a name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.loading import OUTDATED, OWN, Plugin, is_outdated
from alignzoo.system.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from alignzoo.plugin.registry import Registry

log = logging.getLogger(__name__)

#: Config groups whose options are classes of plugins -> the hook that returns the classes.
GROUPS = {
    "method": "alignzoo_methods",
    "reward": "alignzoo_rewards",
    "tools": "alignzoo_tools",
    "environment": "alignzoo_environments",
    "judge": "alignzoo_judges",
}


def collect_named(plugins: Registry, group: str) -> dict[str, tuple[Any, Plugin]]:
    """Return what the group's hook gives, by name; alignzoo keeps its names, two strangers lose a common one."""
    owners: dict[str, list[tuple[Any, Plugin]]] = {}
    for plugin, item in plugins.call(GROUPS[group]):
        owners.setdefault(item.name, []).append((item, plugin))
    found = {}
    for name, adding in owners.items():
        own = [pair for pair in adding if pair[1].distribution == OWN]
        if len(adding) == 1 or own:
            found[name] = (own or adding)[0]
        if len(adding) > 1:
            _record_clash(plugins, group, name, [plugin for _, plugin in adding], bool(own))
    return found


def _record_clash(plugins: Registry, group: str, name: str, owners: list[Plugin], ours: bool) -> None:
    strangers = [plugin for plugin in owners if plugin.distribution != OWN or not ours]
    adding = " and ".join(f"{plugin.name} ({plugin.origin})" for plugin in owners)
    outcome = f"alignzoo's is used. To be rid of this, uninstall {strangers[0].distribution}"
    if not ours:
        outcome = "neither is used. Uninstall one of them"
    text = f"{group} {name!r} is added by {adding}: {outcome}, or set ALIGNZOO_DISABLED_PLUGINS={strangers[-1].name}."
    log.warning("%s", text)
    plugins.clashes[group, name] = text
    for plugin in strangers:
        plugins.remark(plugin, text)


def find_named(plugins: Registry, group: str, name: str) -> Any:
    """Return the class that ``group=name`` stands for.

    Raises:
        UserError: no plugin that works adds it, or several do.
    """
    known = plugins.of_group(group)
    if name in known:
        return known[name][0]
    if (group, name) in plugins.clashes:
        raise UserError(plugins.clashes[group, name])
    left_out = [
        f"\nPlugin {p.name} ({p.origin}) is left out: {p.problem}" for p in plugins.plugins.values() if p.problem
    ]
    if is_outdated(group, name, plugins.plugins.values()):
        raise UserError(f"{group}={name}: {OUTDATED}{''.join(left_out)}")
    near = did_you_mean(str(name), known)
    raise UserError(f"{group}={name}: no installed plugin adds it.{near}{''.join(left_out)}")

"""Checks the installed plugins: those that are left out, and those in use with a fault."""

from __future__ import annotations

from collections.abc import Iterator

from alignzoo.cli.doctor.check import Check, broken, ok, warning
from alignzoo.config.declared import remark_faults
from alignzoo.plugin.registry import registry

SECTION = "plugins"


def check_plugins() -> Iterator[Check]:
    """Yield each fault, or one line that counts the plugins."""
    found = registry()
    remark_faults(found)  # looks at what every hook returns
    for plugin, text in found.faults:
        fix = f"pip install -U {plugin.distribution}, or set ALIGNZOO_DISABLED_PLUGINS={plugin.name}"
        yield (broken if plugin.broken else warning)(SECTION, f"{plugin.name} ({plugin.origin})", text, fix)
    if not found.faults:
        distributions = {plugin.distribution for plugin in found.plugins.values()}
        yield ok(SECTION, "installed", f"{len(found.plugins)} from {', '.join(sorted(distributions))}")

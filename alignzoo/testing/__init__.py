"""Tests a plugin's method in one line; pytest reports each check as a test.

    from alignzoo.testing import conformance

    TestSLiC = conformance("slic")

An environment's are made by ``environment_conformance("treasure", {"start": "a1", "treasure": "c4"})``.

Installed with alignzoo as a pytest plugin, which prints what a failing check found and how to fix it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alignzoo.testing.environments import EnvironmentConformance, environment_conformance
    from alignzoo.testing.finding import NotConforming
    from alignzoo.testing.suite import Conformance, conformance

__all__ = ["Conformance", "EnvironmentConformance", "NotConforming", "conformance", "environment_conformance"]

#: Where a name that does not come from ``suite`` is defined.
MODULES = {
    "NotConforming": "finding",
    "EnvironmentConformance": "environments",
    "environment_conformance": "environments",
}


def __getattr__(name: str) -> Any:
    """Import a name at its first use: pytest loads ``alignzoo.testing.pytest_plugin`` at every start."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES.get(name, 'suite')}"), name)

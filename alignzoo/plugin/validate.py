"""Checks what a plugin's hooks return, item by item, before anything relies on it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Set
from typing import Any

from alignzoo.plugin.judge import Judge
from alignzoo.plugin.method import DataFormat, Method, ModelKind
from alignzoo.plugin.reward import Reward

#: Hook -> the class that each item it returns is a subclass of. Callbacks are looked at where transformers is imported.
CLASSES: dict[str, type] = {"alignzoo_methods": Method, "alignzoo_rewards": Reward, "alignzoo_judges": Judge}


#: What a method may declare -> its kind.
KINDS: dict[str, type] = {"trains": ModelKind, "pinned": Mapping, "headline": Mapping, "options": Set}


def find_fault(hook: str, item: Any) -> str | None:
    """Return what is wrong with one item that ``hook`` returned, in the words of who wrote the plugin, or None."""
    if hook == "alignzoo_config_packages":
        return None if isinstance(item, str) else f"{item!r}, which is not the import name of a package"
    if hook not in CLASSES:
        return None
    base = CLASSES[hook]
    if not (isinstance(item, type) and issubclass(item, base)):
        return f"{item!r}, which is not a subclass of alignzoo.{base.__name__}"
    name = getattr(item, "name", None)
    if not isinstance(name, str):
        return f"{item.__name__}, which has no name"
    if not re.fullmatch(r"[\w-]+", name, re.ASCII):
        return f"{item.__name__}, whose name {name!r} cannot be typed: take letters, digits, _ and -"
    if inspect.isabstract(item):
        return f"{item.__name__}, which lacks {', '.join(sorted(vars(item).get('__abstractmethods__', ())))}"
    return _method_fault(item) if base is Method else None


def _method_fault(method: Any) -> str | None:
    if not isinstance(getattr(method, "data", None), DataFormat):
        return f"{method.__name__}, whose data is not an alignzoo.DataFormat"
    for name in ("config", "trainer"):
        if ":" not in str(getattr(method, name, "")):
            return f'{method.__name__}, whose {name} is not written as "module:Class"'
    for name, kind in KINDS.items():
        if not isinstance(getattr(method, name), kind):
            return f"{method.__name__}, whose {name} is not a {kind.__name__}"
    return None

"""Checks what a plugin's hooks return, item by item, before anything relies on it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

from alignzoo.plugin import hooks
from alignzoo.plugin.environment import Environment, find_actions
from alignzoo.plugin.hooks import PROJECT
from alignzoo.plugin.judge import Judge
from alignzoo.plugin.method import TRAINED, DataFormat, Method, ModelKind
from alignzoo.plugin.reward import Reward
from alignzoo.plugin.tool import Tool
from alignzoo.system.errors import find_nearest

HOOKS = [name for name in vars(hooks) if name.startswith(f"{PROJECT}_")]

#: Hook -> the class that each item it returns is a subclass of. Callbacks are looked at where transformers is imported.
CLASSES: dict[str, type] = {
    "alignzoo_methods": Method,
    "alignzoo_rewards": Reward,
    "alignzoo_tools": Tool,
    "alignzoo_environments": Environment,
    "alignzoo_judges": Judge,
}

#: What a method may declare -> its kind.
KINDS: dict[str, type] = {
    "family": str,
    "relatives": Mapping,
    "trains": ModelKind,
    "pinned": Mapping,
    "headline": Mapping,
    "options": Set,
    "tools_trainer": str,
    **dict.fromkeys(
        ("needs_reference", "uses_rewards", "uses_teacher", "samples", "whole_logits", "scores_again"), bool
    ),
}

#: A name of a method, reward, tool, environment or judge:
#: a word of the command line, of YAML, of a folder's and, mostly, a module's name.
NAME = re.compile(r"[a-z][a-z0-9_]*")

#: Words that the command line or YAML take for something else.
TAKEN = frozenset({"null", "true", "false", "nan", "inf", "yes", "no", "on", "off"})


def list_items(returned: Any) -> tuple[list[Any], str | None]:
    """Return the items that a hook returned, and what is wrong with it if it is not a list, or cannot be walked."""
    if isinstance(returned, type):
        return [], f"the class {returned.__name__} and not a list: return [{returned.__name__}]"
    if isinstance(returned, str):
        return [], f"the text {returned!r} and not a list: return [{returned!r}]"
    if returned is None:
        return [], "nothing: return a list"
    if not isinstance(returned, Iterable):
        return [], f"{returned!r} and not a list"
    return list(returned), None


def find_unmarked(module: Any) -> list[str]:
    """Return what to do about functions of a plugin's module that are hooks by their names, and not marked as such."""
    found = []
    for name in (name for name in dir(module) if name.startswith(f"{PROJECT}_")):
        function = getattr(module, name, None)
        if not inspect.isroutine(function) or hasattr(function, f"{PROJECT}_impl"):
            continue
        near = [name] if name in HOOKS else find_nearest(name, HOOKS, 1)
        if near:
            found.append(f"its function {name} is not marked as a hook: write @hookimpl above def {near[0]}")
    return found


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
    if not NAME.fullmatch(name) or name in TAKEN:
        return f"{item.__name__}, whose name {name!r} will not do: take {suggest_name(name)!r}"
    if inspect.isabstract(item):
        return f"{item.__name__}, which lacks {', '.join(sorted(vars(item).get('__abstractmethods__', ())))}"
    if issubclass(item, Environment):
        return _environment_fault(item)
    return _method_fault(item) if base is Method else None


def suggest_name(name: str) -> str:
    """Return the name of lower-case letters, digits and _ that is nearest."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return plain if NAME.fullmatch(plain) and plain not in TAKEN else f"my_{plain}".rstrip("_")


def _environment_fault(environment: type[Environment]) -> str | None:
    if not find_actions(environment):
        return f"{environment.__name__}, which has no action: each public method but reset is one"
    if hasattr(environment, "get_reward"):
        return f"{environment.__name__}, which has get_reward: alignzoo reads the property reward"
    return None


def _method_fault(method: Any) -> str | None:
    if not isinstance(data := getattr(method, "data", None), DataFormat) or data not in TRAINED:
        formats = ", ".join(f"DataFormat.{kind.name}" for kind in TRAINED)
        return f"{method.__name__}, whose data is not one of {formats}"
    for name in ("config", "trainer"):
        if ":" not in str(getattr(method, name, "")):
            return f'{method.__name__}, whose {name} is not written as "module:Class"'
    for name, kind in KINDS.items():
        if not isinstance(getattr(method, name), kind):
            return f"{method.__name__}, whose {name} is not a {kind.__name__}"
    if method.family and not NAME.fullmatch(method.family):
        return f"{method.__name__}, whose family {method.family!r} will not do: take {suggest_name(method.family)!r}"
    return None

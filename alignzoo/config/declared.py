"""Checks what a method declares against the installed TRL and the config groups, before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from alignzoo.config.options import Option, config_options
from alignzoo.config.trl_fields import read_config_fields
from alignzoo.config.trl_source import explain_missing_class, read_formats
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.method import Method, find_tools_trainer
from alignzoo.plugin.named import GROUPS
from alignzoo.system.errors import did_you_mean

if TYPE_CHECKING:
    from alignzoo.plugin.loading import Plugin
    from alignzoo.plugin.registry import Registry


def find_fault(method: type[Method]) -> str | None:
    """Return the first of what a method declares that the installed TRL does not have, in one line, or None."""
    for attribute in ("config", "trainer", *(["tools_trainer"] if find_tools_trainer(method) else [])):
        missing = explain_missing_class(getattr(method, attribute))
        if missing:
            return f"its {attribute} {missing}"
    return _find_unknown_field(method) or _find_other_format(method)


def _find_unknown_field(method: type[Method]) -> str | None:
    fields = read_config_fields(method.config)
    for key in method.pinned:
        if fields and key not in fields:
            return f"its pinned field {key!r} is not in {_name_class(method.config)}.{did_you_mean(key, fields)}"
    return None


def _find_other_format(method: type[Method]) -> str | None:
    """Say which rows the trainer reads, where these are others; a method that builds it in its own way may convert."""
    own = (method.trainer_arguments, method.build_trainer)
    formats = read_formats(method.trainer)
    if own != (Method.trainer_arguments, Method.build_trainer) or not formats or method.data in formats:
        return None
    wanted = " or ".join(f"DataFormat.{kind.name}" for kind in sorted(formats))
    return f"its data is DataFormat.{method.data.name}, and {_name_class(method.trainer)} reads {wanted}."


def _name_class(spec: str) -> str:
    return spec.partition(":")[2]


def remark_faults(plugins: Registry, ours: bool = True) -> None:
    """Note for ``list`` and ``doctor`` what keeps methods, rewards and the like of plugins from being run.

    ``ours``: also read TRL for alignzoo's own methods, which takes a second.
    """
    options = config_options()
    for name, (method, plugin) in plugins.methods.items():
        fault = find_fault(method) if ours or plugin.distribution != OWN else None
        if fault:
            plugins.remark(plugin, f"method={name} cannot run: {fault}")
    for group in GROUPS:
        for name, (_, plugin) in plugins.of_group(group).items():
            if name not in options.get(group, {}):
                plugins.remark(plugin, _explain_missing_option(group, name))
    for option in options.get("method", {}).values():
        _remark_unknown_name(plugins, option)


def _explain_missing_option(kind: str, name: str) -> str:
    return (
        f"{kind}={name} cannot be chosen: no config package has {kind}/{name}.yaml. Write it, return its package from "
        "alignzoo_config_packages, and name it in package-data"
    )


def _remark_unknown_name(plugins: Registry, option: Option) -> None:
    """Note an option of the group ``method`` whose ``name`` is not that of a method."""
    owner: Plugin | None = next((p for p in plugins.plugins.values() if p.origin == option.origin), None)
    try:
        loaded = yaml.safe_load(option.text)
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # whoever chooses it is told where
    name = loaded.get("name") if isinstance(loaded, dict) else None
    if owner is None or owner.problem or not isinstance(name, str) or name in plugins.methods:
        return
    near = did_you_mean(name, plugins.methods)
    plugins.remark(owner, f"its method/{option.name}.yaml says name: {name}, and no plugin adds that method.{near}")

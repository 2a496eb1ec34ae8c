"""Checks without torch the keys of a method's YAML against its TRL config."""

from __future__ import annotations

import importlib.resources
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from alignzoo.plugin.method import Method
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import did_you_mean
from alignzoo.testing.finding import NotConforming, explain_failures
from alignzoo.train.losses.compare import TEACHER


def check_fields(method: type[Method]) -> None:
    """Refuse keys of the YAML that the TRL config does not have."""
    from alignzoo.config.trl_fields import OWN_METHOD_KEYS, read_config_fields

    fields = read_config_fields(method.config)
    if not fields:
        fix = "name the config's class and its module as they are defined; its bases have to be imported by name."
        raise NotConforming(method.name, f"config={method.config!r}: no field of it can be read", fix)
    for key in read_keys(method):
        if key not in fields and key not in method.options | OWN_METHOD_KEYS:
            fix = f"rename it, or add it to `options` if the method reads it itself.{did_you_mean(key, fields)}"
            raise NotConforming(method.name, f"method/{method.name}.yaml: {method.config} has no field {key!r}", fix)


def read_keys(method: type[Method]) -> dict[str, Any]:
    """Return the top-level keys of the method's YAML, ``defaults`` left out, if it is found and named as it should."""
    path = f"method/{method.name}.yaml"
    with explain_failures(method.name, path, "fix the YAML."):
        loaded = yaml.safe_load(find_option_file(method).read_text(encoding="utf-8"))
    if not isinstance(loaded, dict) or loaded.get("name") != method.name:
        raise NotConforming(method.name, f"{path} does not say `name: {method.name}`", "begin it with that key.")
    if "learning_rate" not in loaded and "defaults" not in loaded:
        fix = "add the key, or TRL's own rate, which fits no method in particular, is used silently."
        raise NotConforming(method.name, f"{path} sets no learning_rate", fix)
    return {key: value for key, value in loaded.items() if key != "defaults"}


def find_option_file(method: type[Method]) -> Traversable:
    """Return the YAML that ``method=NAME`` reads."""
    packages = ["alignzoo_conf", *(package for _, package in registry().call("alignzoo_config_packages"))]
    for package in packages:
        with explain_failures(method.name, f"config package {package}", "give it an __init__.py, and name it right."):
            file = importlib.resources.files(package).joinpath("method", f"{method.name}.yaml")
        if file.is_file():
            return file
    fix = (
        f"write conf/method/{method.name}.yaml, return its package from alignzoo_config_packages, and name the YAML in "
        "package-data, or it is missing from the wheel."
    )
    raise NotConforming(method.name, f"method/{method.name}.yaml is in no config package ({', '.join(packages)})", fix)


def check_comments(method: type[Method]) -> None:
    """Refuse keys without a comment above them: users read nothing else about them."""
    keys = read_keys(method)
    above = ""
    for line in find_option_file(method).read_text(encoding="utf-8").splitlines():
        key = line.partition(":")[0]
        derived = key == "learning_rate" and "${" in line  # from learning_rates, which has the comment
        if key in keys and not derived and not above.startswith("#"):
            fix = "write above it what it does, in which unit, and over which range."
            raise NotConforming(method.name, f"method/{method.name}.yaml: no comment stands above {key!r}", fix)
        above = line


def check_defaults(method: type[Method], words: tuple[str, ...] = ()) -> None:
    """Refuse a method whose defaults do not pass the checks before a run."""
    from alignzoo.config import check
    from alignzoo.config.compose import compose

    fix = "correct the YAML, `pinned` or `check`, so that the defaults can be run."
    with explain_failures(method.name, f"method={method.name}", fix):
        teacher = TEACHER if method.uses_teacher else ()
        check.check(compose([f"method={method.name}", "model=tiny", *teacher, *words]))

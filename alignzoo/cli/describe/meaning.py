"""Collects what docstrings and YAML comments say of an option and its keys."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from alignzoo.cli.describe.facts import list_facts
from alignzoo.cli.describe.trl_docs import Field, read_own_fields
from alignzoo.cli.describe.yaml_comments import read_heading, read_keys
from alignzoo.config.compose import compose
from alignzoo.config.options import Option, config_options
from alignzoo.plugin.named import GROUPS
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError, did_you_mean

#: What every method's file leaves unsaid.
RATE = "Peak learning rate: one of the three above, as `peft.rate` and `model.rate` say."


@dataclass(frozen=True)
class Key:
    """One key as it is typed, the value that it has unless it is set, and what is said of it."""

    path: str
    default: str
    text: str
    trl: str = ""
    """What TRL's docstring says of the field that the key fills."""


@dataclass(frozen=True)
class Description:
    """All that is known of one option without running it."""

    option: Option
    summary: str
    text: str = ""
    """Paragraphs: source, formula, published ranges."""

    facts: dict[str, str] = field(default_factory=dict)
    keys: list[Key] = field(default_factory=list)
    config: str = ""
    """The TRL config whose further fields ``more`` holds."""

    more: dict[str, Field] = field(default_factory=dict)
    """Fields that the option's file does not set; ``+method.NAME=`` does."""

    examples: list[str] = field(default_factory=list)

    @property
    def typed(self) -> str:
        """The option as it is typed."""
        return _typed(self.option)


def describe(word: str) -> Description:
    """Return the description of ``"group=option"``.

    Raises:
        UserError: no option has that name.
    """
    option = find_option(word)
    classes = dict.fromkeys(GROUPS, _class) | {"method": _method}
    found = classes[option.group](option) if option.group in classes else None
    return found or Description(
        option,
        read_heading(option.text) or word,
        keys=list(_keys(option)),
        examples=[f"python -m alignzoo {_typed(option)}"],
    )


def find_option(word: str) -> Option:
    """Return the option that ``"group=option"`` names.

    Raises:
        UserError: there is none, or the word has another form.
    """
    groups = config_options()
    group, equals, name = word.partition("=")
    if not equals:
        meant = [f"{g}={word}" for g, options in groups.items() if word in options]
        hint = f" Did you mean {' or '.join(meant)}?" if meant else " Write group=option, as in method=dpo."
        raise UserError(f"{word}: no option.{hint}")
    if group not in groups:
        raise UserError(f"{word}: no such group.{did_you_mean(group, groups)}\nThere are: {', '.join(groups)}.")
    if name not in groups[group]:
        if group in GROUPS:
            registry().find(group, name)  # says which plugin is missing or broken
        near = did_you_mean(name, groups[group])
        raise UserError(f"{word}: no such option.{near}\nThere are: {', '.join(groups[group])}.")
    return groups[group][name]


def _method(option: Option) -> Description:
    method = registry().method(option.name)  # or why there is a file and no method
    name = method.config.partition(":")[2]
    fields = read_own_fields(method.config)
    listed = list(_keys(option, fields))
    said = {key.path.removeprefix("method.") for key in listed} | method.pinned.keys()
    typed = f"python -m alignzoo {_typed(option)}{' teacher=smollm2-360m' * method.uses_teacher}"
    settable = [key for key in listed if key.default and "${" not in key.default and key.path.count(".") == 1]
    return Description(
        option,
        _summary(method),
        _text(method),
        list_facts(method, compose([f"method={option.name}"])),
        listed,
        name,
        {field: found for field, found in fields.items() if field not in said},
        [
            typed,
            *(f"{typed} {key.path}={key.default}" for key in settable[:1]),
            f"{typed} dataset=local dataset.path=FILE{' reward=length' if method.uses_rewards else ''}",
        ],
    )


def _class(option: Option) -> Description | None:
    """Describe a reward, tool, environment or judge: the class says what it is, the file what its keys mean."""
    found = registry().of_group(option.group)
    if option.name not in found:
        return None
    item, _ = found[option.name]
    columns = ", ".join(sorted(getattr(item, "columns", ())))
    facts = {"needs the columns": columns} if columns else {}
    text = "\n\n".join(part for part in (read_heading(option.text), _body(item)) if part)
    examples = dict.fromkeys(("reward", "tools", "environment"), f"python -m alignzoo method=grpo {_typed(option)}")
    return Description(
        option,
        _summary(item),
        text,
        facts,
        list(_keys(option)),
        examples=[examples.get(option.group, f"python -m alignzoo {_typed(option)}")],
    )


def _summary(item: Any) -> str:
    return (inspect.getdoc(item) or "").partition("\n")[0]


def _body(item: Any) -> str:
    return (inspect.getdoc(item) or "").partition("\n")[2].strip()


def _text(item: type) -> str:
    """Return what the class says below its first line, and what its module does; a paragraph is one line."""
    about = inspect.cleandoc(sys.modules[item.__module__].__doc__ or "").partition("\n")[2].strip()
    paragraphs = "\n\n".join(part for part in (_body(item), about) if part).split("\n\n")
    return "\n\n".join(part if part.startswith(" ") else " ".join(part.split()) for part in paragraphs)


def _typed(option: Option) -> str:
    return f"{option.group}={option.name}"


def _keys(option: Option, fields: dict[str, Field] | None = None) -> Iterator[Key]:
    """Yield the option's keys; what its file leaves unsaid, the whole configuration's file may say."""
    text = option.text
    shared = {key.path: key.comment for key in read_keys(config_file()) if key.comment}
    prefix = "" if "# @package _global_" in text else f"{option.group}."
    for place, key in enumerate(read_keys(text)):
        path = f"{prefix}{key.path}"
        comment = "" if place == 0 and key.comment == read_heading(text) else key.comment
        if key.path in ("name", "defaults"):
            continue
        comment = comment or RATE if path == "method.learning_rate" else comment
        trl = fields.get(key.path, Field("", "")).text if fields else ""
        yield Key(path, key.value, comment or shared.get(path, ""), trl)


def config_file() -> str:
    """Return ``config.yaml``, whose comments describe the keys that all options of a group have."""
    import importlib.resources

    return importlib.resources.files("alignzoo_conf").joinpath("config.yaml").read_text(encoding="utf-8")

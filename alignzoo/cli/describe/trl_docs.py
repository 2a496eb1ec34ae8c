"""Reads what TRL's docstrings say of a config's fields, from its source."""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass

from alignzoo.config.trl_source import find_class

#: A parameter's first line: ``beta (`float`, *optional*, defaults to `0.1`):``
PARAMETER = re.compile(r"^(\w+)(?: ?\(.*\))?:$", re.MULTILINE)


@dataclass(frozen=True)
class Field:
    """A field of a TRL config: its default as written in the source, and what the docstring says ('': nothing)."""

    default: str
    text: str


def read_own_fields(spec: str) -> dict[str, Field]:
    """Return the fields that ``"module:Class"`` itself declares, in its order, without those of its bases.

    Empty if the source is not found. Fields that the docstring calls deprecated are left out.
    """
    module, _, name = spec.partition(":")
    found = find_class(module, name)
    if found is None:
        return {}
    node, _ = found
    said = read_parameters(ast.get_docstring(node) or "")
    declared = [s for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
    fields = {ast.unparse(s.target): Field(_default(s.value), said.get(ast.unparse(s.target), "")) for s in declared}
    return {name: field for name, field in fields.items() if name[0] != "_" and "<Deprecated" not in field.text}


def read_parameters(docstring: str) -> dict[str, str]:
    """Return the text of each parameter of a Google-style docstring, without line breaks and links."""
    _, _, listed = docstring.partition("Parameters:\n")
    listed = textwrap.dedent(listed.partition("\n> [!")[0])
    names = list(PARAMETER.finditer(listed))
    ends = [following.start() for following in names[1:]] + [len(listed)]
    return {name[1]: _plain(listed[name.end() : end]) for name, end in zip(names, ends, strict=False)}


def _plain(text: str) -> str:
    indented = [line for line in text.splitlines() if not line or line.startswith(" ")]  # not the groups' headings
    text = " ".join(" ".join(indented).split())
    text = re.sub(r"\[`~?([\w.]+)`\]", lambda match: match[1].rpartition(".")[2], text)
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)


def _default(value: ast.expr | None) -> str:
    """Return what stands behind ``default=`` or ``default_factory=lambda:``, or the value itself."""
    if isinstance(value, ast.Call):
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        value = given.get("default") or given.get("default_factory")
        value = value.body if isinstance(value, ast.Lambda) else value
    return "" if value is None else ast.unparse(value)

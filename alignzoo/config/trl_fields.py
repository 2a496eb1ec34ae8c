"""Reads the fields of a TRL config from its source, since importing takes seconds, and tells which keys go to it."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib.metadata
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import to_plain
from alignzoo.config.trl_source import find_class, find_definition, find_import
from alignzoo.plugin.loading import OWN, find_unmet_requirement

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.plugin.method import Method

log = logging.getLogger(__name__)

Fields = dict[str, str]  #: field name -> its annotation, as written


@functools.cache
def read_config_fields(spec: str) -> Fields:
    """Return the dataclass fields of ``"module:Class"``, inherited ones included.

    The module may be a package that only re-exports the class (``"trl:DPOConfig"``): its folder is searched, files
    nearest to its top first. Empty if the source cannot be found, in which case the constructor itself has to complain.
    """
    module, _, name = spec.partition(":")
    found = find_class(module, name)
    if found is None:
        return {}
    node, tree = found
    fields: Fields = {}
    for base in reversed(node.bases):
        inherited = _read_base_fields(base, module.split(".")[0], tree)
        if inherited is None:
            return {}  # some of the fields would refuse the others wrongly
        fields |= inherited
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = ast.unparse(statement.annotation)
            if not annotation.startswith("ClassVar") and not statement.target.id.startswith("_"):
                fields[statement.target.id] = annotation
    return fields


def _read_base_fields(base: ast.expr, package: str, tree: ast.Module) -> Fields | None:
    """Return the fields of a base class, {} if it is not a dataclass of interest, None if it cannot be found."""
    if not isinstance(base, ast.Name):
        return None
    if find_definition(tree, base.id):
        return read_config_fields(f"{package}:{base.id}")
    imported = find_import(tree, base.id, package)
    if imported:
        return read_config_fields(imported) or None
    return {} if base.id in dir(builtins) else None


_TYPES: dict[str, tuple[type, ...]] = {
    "float": (float, int),
    "int": (int,),
    "bool": (bool,),
    "str": (str,),
    "dict": (dict,),
    "list": (list,),
    "tuple": (list, tuple),
    "None": (type(None),),
}


def fits(value: Any, annotation: str) -> bool:
    """Tell whether a YAML value fits an annotation such as ``"float | None"``; an unknown part fits everything."""
    allowed: list[type] = []
    for part in _split_union(ast.parse(annotation, mode="eval").body):
        name = ast.unparse(part).split("[")[0]
        if name not in _TYPES:
            return True
        allowed += _TYPES[name]
    if isinstance(value, bool):
        return bool in allowed
    return isinstance(value, tuple(allowed))


def _split_union(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the members of ``A | B``, ``Optional[A]`` and ``Union[A, B]``."""
    if isinstance(node, ast.BinOp):
        yield from _split_union(node.left)
        yield from _split_union(node.right)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in {"Optional", "Union", "typing.Optional"}:
        members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for member in members:
            yield from _split_union(member)
        if "Optional" in ast.unparse(node.value):
            yield ast.Constant(None)
    else:
        yield node


@functools.cache
def warn_untested_trl() -> None:
    """Warn, once a process, of a TRL outside the range that pyproject.toml declares."""
    version = importlib.metadata.version("trl")
    wanted = find_unmet_requirement(importlib.metadata.distribution(OWN), "trl", version)
    if wanted:
        log.warning(
            "TRL %s is installed, and alignzoo is tested with %s: losses and defaults may differ. pip install '%s'",
            *(version, wanted.removeprefix("trl"), wanted),
        )


#: Keys of `train` that the core turns into TRL's own.
OWN_TRAIN_KEYS = frozenset(
    {
        *("global_batch_size", "per_device_batch_size", "per_device_batch_tokens", "max_length", "precision"),
        *("gradient_checkpointing", "budget", "stop_before", "verify"),
    }
)

OWN_METHOD_KEYS = frozenset({"name", "learning_rates", "search"})  #: keys of `method` that no TRL config has


def trl_items(cfg: DictConfig, group: str, method: type[Method]) -> dict[str, Any]:
    """Return the keys of ``cfg.<group>`` that go to the TRL config, as plain containers."""
    own = OWN_METHOD_KEYS | method.options if group == "method" else OWN_TRAIN_KEYS
    items: dict[str, Any] = to_plain(cfg[group])
    return {key: value for key, value in items.items() if key not in own}

"""The fields of a TRL config, read from its source file: importing TRL's trainers takes seven seconds, this a tenth."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Fields = dict[str, str]  #: field name -> its annotation, as written


@functools.cache
def config_fields(spec: str) -> Fields:
    """Return the dataclass fields of ``"module:Class"``, inherited ones included.

    The module may be a package that only re-exports the class (``"trl:DPOConfig"``): its folder is searched, files
    nearest to its top first. Empty if the source cannot be found, in which case the constructor itself has to complain.
    """
    module, _, name = spec.partition(":")
    found = _find_class(module, name)
    if found is None:
        return {}
    file, node, tree = found
    fields: Fields = {}
    for base in reversed(node.bases):
        fields |= _base_fields(base, file, module.split(".")[0], tree)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            annotation = ast.unparse(statement.annotation)
            if not annotation.startswith("ClassVar") and not statement.target.id.startswith("_"):
                fields[statement.target.id] = annotation
    return fields


def _base_fields(base: ast.expr, file: Path, package: str, tree: ast.Module) -> Fields:
    name = ast.unparse(base).split(".")[-1]
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ImportFrom) and name in {alias.asname or alias.name for alias in statement.names}:
            source = statement.module or ""
            module = source if not statement.level else package
            return config_fields(f"{module}:{name}")
    return config_fields(f"{package}:{name}") if _defines(tree, name) else {}


def _find_class(module: str, name: str) -> tuple[Path, ast.ClassDef, ast.Module] | None:
    pattern = re.compile(rf"^class {re.escape(name)}\b", re.MULTILINE)
    for file in _sources(module):
        text = file.read_text(encoding="utf-8", errors="replace")
        if pattern.search(text):
            tree = ast.parse(text)
            node = _defines(tree, name)
            if node:
                return file, node, tree
    return None


def _defines(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)


def _sources(module: str) -> Iterator[Path]:
    """Yield the module's file, or its package's files, nearest to the top first."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return
    path = Path(spec.origin)
    if path.name == "__init__.py":
        path = path.parent.joinpath(*rest)
    if path.is_dir():
        folders = [path]
        while folders:
            yield from sorted(file for folder in folders for file in folder.glob("*.py"))
            folders = [child for folder in folders for child in sorted(folder.iterdir()) if child.is_dir()]
    else:
        yield path.with_suffix(".py")


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
    for part in _parts(ast.parse(annotation, mode="eval").body):
        name = ast.unparse(part).split("[")[0]
        if name not in _TYPES:
            return True
        allowed += _TYPES[name]
    if isinstance(value, bool):
        return bool in allowed
    return isinstance(value, tuple(allowed))


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the members of ``A | B``, ``Optional[A]`` and ``Union[A, B]``."""
    if isinstance(node, ast.BinOp):
        yield from _parts(node.left)
        yield from _parts(node.right)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value) in {"Optional", "Union", "typing.Optional"}:
        members = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for member in members:
            yield from _parts(member)
        if "Optional" in ast.unparse(node.value):
            yield ast.Constant(None)
    else:
        yield node

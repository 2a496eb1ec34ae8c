"""Finds classes in the source files of TRL, or of any package, without importing them, and what they read."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from alignzoo.plugin.method import DataFormat
from alignzoo.system.errors import did_you_mean

#: Format -> the columns without which its rows are not its rows.
NEEDED = {
    DataFormat.PREFERENCE: {"chosen_ids", "rejected_ids"},
    DataFormat.UNPAIRED: {"completion_ids", "label"},
    DataFormat.SUPERVISED: {"input_ids"},
    DataFormat.PROMPTS: {"prompt"},
}


def find_class(module: str, name: str) -> tuple[ast.ClassDef, ast.Module] | None:
    """Return the source of a class of ``module``, or of a file below it, and of the file; None if there is none."""
    pattern = re.compile(rf"^class {re.escape(name)}\b", re.MULTILINE)
    for file in _find_sources(module):
        text = file.read_text(encoding="utf-8", errors="replace")
        if pattern.search(text):
            tree = ast.parse(text)
            node = find_definition(tree, name)
            if node:
                return node, tree
    return None


def find_definition(tree: ast.Module, name: str) -> ast.ClassDef | None:
    """Return the class called ``name`` that a file defines at its top, or None."""
    return next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)


def find_import(tree: ast.Module, name: str, package: str) -> str | None:
    """Return where a file of ``package`` imports ``name`` from, as ``"module:Class"``, or None if it does not."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if name == (alias.asname or alias.name):
                    return f"{package if statement.level else statement.module}:{alias.name}"
    return None


def _find_place(module: str) -> Path | None:
    """Return the file of a module, or the folder of a package; None if there is none. Nothing is imported."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return None if rest or not spec.origin else Path(spec.origin)
    for root in map(Path, spec.submodule_search_locations):
        path = root.joinpath(*rest)
        files = sorted(path.parent.glob(f"{path.name}.*"), key=lambda file: file.suffix != ".py")  # or a compiled one
        if path.is_dir() or files:
            return path if path.is_dir() else files[0]
    return None


def _find_sources(module: str) -> Iterator[Path]:
    """Yield the module's file, or its package's files, nearest to the top first."""
    place = _find_place(module)
    if place is None or not place.is_dir():
        yield from (file for file in [place] if file and file.suffix == ".py")
        return
    folders = [place]
    while folders:
        yield from sorted(file for folder in folders for file in folder.glob("*.py"))
        folders = [child for folder in folders for child in sorted(folder.iterdir()) if child.is_dir()]


@functools.cache
def explain_missing_class(spec: str) -> str | None:
    """Return why ``"module:Class"`` cannot be imported, with the installed version, or None where nothing is wrong.

    A module whose source says nothing of its names, such as a compiled one, is believed.
    """
    module, _, name = spec.partition(":")
    top = module.partition(".")[0]
    if _find_place(top) is None:
        return f"{spec} cannot be found: the package {top} is not installed."
    release = f"TRL {importlib.metadata.version('trl')}" if top == "trl" else top
    place = _find_place(module)
    if place is None:
        return f"{spec} is not in {release}: it has no module {module}.{_suggest(top, name)}"
    file = place / "__init__.py" if place.is_dir() else place
    names = _read_names(file)
    if names is None or name in names:
        return None
    return f"{spec} is not in {release}.{_suggest(top, name, names)}"


def _read_names(file: Path) -> set[str] | None:
    """Return the names that a module may have: all that it defines, imports or lists. None: it may have others."""
    if file.suffix != ".py" or not file.is_file():
        return None
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8", errors="replace"))):
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            names.add(node.value)  # of a lazy module's list
    return None if "*" in names else names


def _suggest(top: str, name: str, names: Collection[str] = ()) -> str:
    """Return where else in the package a class of that name is, or names of the module that are near."""
    place = _find_place(top)
    if place is not None and place.is_dir():
        for folder in [place, *sorted(path.parent for path in place.rglob("__init__.py"))]:
            if name in (_read_names(folder / "__init__.py") or ()):
                return f" Did you mean {'.'.join((top, *folder.relative_to(place).parts))}:{name}?"
    return did_you_mean(name, names)


@functools.cache
def read_formats(spec: str) -> frozenset[DataFormat]:
    """Return the formats that the trainer ``"module:Class"`` takes, as far as its source tells; none: it does not."""
    module, _, name = spec.partition(":")
    found = find_class(module, name)
    if found is None:
        return frozenset()
    node, tree = found
    functions = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    if "_set_signature_columns_if_needed" in functions:
        return _match_columns(functions["_set_signature_columns_if_needed"])
    if "tokenize_row" in functions:
        texts = {n.value for n in ast.walk(functions["tokenize_row"]) if isinstance(n, ast.Constant)}
        return frozenset({DataFormat.PREFERENCE} if "chosen" in texts else ())
    package = module.partition(".")[0]
    bases = (find_import(tree, base.id, package) for base in node.bases if isinstance(base, ast.Name))
    return next((formats for base in bases if base and (formats := read_formats(base))), frozenset())


def _match_columns(function: ast.FunctionDef) -> frozenset[DataFormat]:
    """Return the formats with the columns that the trainer keeps, of the lists that are there for text."""
    lists = [node.value for node in ast.walk(function) if isinstance(node, ast.Assign)]
    columns = [{ast.literal_eval(item) for item in found.elts} for found in lists if isinstance(found, ast.List)]
    texts = [found for found in columns if "images" not in found] or columns
    return frozenset(kind for kind, needed in NEEDED.items() if any(needed <= found for found in texts))

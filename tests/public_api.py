"""The public interface as text: what ``alignzoo/__init__.py`` exports and the hooks, with every signature.

``python tests/public_api.py --write`` writes it into ``tests/public_api.txt``.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import alignzoo
from alignzoo.plugin import hooks as hookspecs

GOLDEN = Path(__file__).with_suffix(".txt")


def interface() -> str:
    """Return the interface, read from source: an annotation is printed as it is written, in every Python."""
    parts = ["\n".join(_lines(name)) for name in sorted(alignzoo.__all__)]
    hooks = [_signature(node) for node in _tree(hookspecs.__file__).body if isinstance(node, ast.FunctionDef)]
    return "\n\n".join([*parts, "# hooks", *hooks]) + "\n"


def _tree(file: str | None) -> ast.Module:
    return ast.parse(Path(str(file)).read_text(encoding="utf-8"))


def _lines(name: str) -> Iterator[str]:
    exported = getattr(alignzoo, name)
    module = exported.__module__ if inspect.isclass(exported) or inspect.isfunction(exported) else hookspecs.__name__
    for node in _tree(sys.modules[module].__file__).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield from _class(node)
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            yield _signature(node)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            yield ast.unparse(node)


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield from (f"@{ast.unparse(decorator)}" for decorator in node.decorator_list)
    yield f"class {node.name}({', '.join(ast.unparse(base) for base in node.bases)}):"
    for child in node.body:
        if isinstance(child, ast.FunctionDef) and (child.name == "__call__" or child.name[0] != "_"):
            yield from (f"    {line}" for line in _signature(child).splitlines())
        elif isinstance(child, ast.AnnAssign | ast.Assign):
            yield f"    {ast.unparse(child)}"


def _signature(node: ast.FunctionDef) -> str:
    decorators = "".join(f"@{ast.unparse(decorator)}\n" for decorator in node.decorator_list)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{decorators}def {node.name}({ast.unparse(node.args)}){returns}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        GOLDEN.write_text(interface(), encoding="utf-8")
    else:
        print(interface(), end="")

"""Checks without torch what a method declares: its class, docstrings, and module's imports."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping

from alignzoo.plugin.method import DataFormat, Method
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError
from alignzoo.testing.finding import NotConforming

#: Formats that a trainer's rows can have; datasets hold others too.
TRAINED = (DataFormat.PREFERENCE, DataFormat.UNPAIRED, DataFormat.SUPERVISED, DataFormat.PROMPTS)

HEAVY = ("torch", "transformers", "datasets", "trl")  #: packages that take seconds to import


def find_method(name: str) -> type[Method]:
    """Return the method, found as users find it."""
    try:
        return registry().method(name)
    except UserError as error:
        fix = (
            'pyproject.toml needs an entry point in the group "alignzoo" that names the module, and the module '
            "alignzoo_methods, which returns the class. Then run `pip install -e .` again."
        )
        raise NotConforming(name, str(error), fix) from None


def check_declarations(method: type[Method]) -> None:
    """Refuse attributes of another type than :class:`Method` says; without the first four no plugin is registered."""
    name = method.name
    if method.data not in TRAINED:
        formats = ", ".join(f"DataFormat.{kind.name}" for kind in TRAINED)
        raise NotConforming(name, f"data is {method.data}", f"set data to one of {formats}.")
    for attribute in ("needs_reference", "uses_rewards"):
        value = getattr(method, attribute)
        if not isinstance(value, bool):
            raise NotConforming(name, f"{attribute} is {value!r}", "set it to True or False.")
    for attribute in ("pinned", "headline"):
        value = getattr(method, attribute)
        if not isinstance(value, Mapping):
            raise NotConforming(name, f"{attribute} is {value!r}", "set it to a dict.")


def check_source(method: type[Method]) -> None:
    """Refuse a method that does not say where it comes from: ``list`` shows the first line, readers look it up."""
    module = sys.modules[method.__module__]
    first = (method.__doc__ or "").strip().partition("\n")[0]
    if not re.search(r"\(.*\b(19|20)\d\d\b.*\)", first):
        fix = f"begin the docstring of {method.__name__} with the method's name, then authors and year in brackets."
        raise NotConforming(method.name, f"the docstring's first line cites no paper: {first!r}", fix)
    if not re.search(r"https?://\S+", f"{module.__doc__} {method.__doc__}"):
        fix = f"put the paper's address (https://arxiv.org/abs/...) into the docstring of {method.__module__}."
        raise NotConforming(method.name, "no docstring has the address of the paper", fix)


#: Code for a fresh interpreter, which prints what has been imported after each step.
PROBE = """
import contextlib, importlib, io, sys
def heavy(step):
    print(step, *sorted({heavy} & sys.modules.keys()), sep=",", file=sys.stderr)
importlib.import_module("alignzoo.cli")
heavy("import alignzoo")
importlib.import_module({module!r})
heavy("import " + {module!r})
sys.argv = ["alignzoo"]
for words in (["list"], ["method=" + {name!r}, "--help"], ["method=" + {name!r}, "--cfg", "job"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        importlib.import_module("alignzoo.cli").main(words)
    heavy(" ".join(words))
"""


def check_imports(method: type[Method]) -> None:
    """Refuse a plugin that makes ``list``, ``--help`` and every mistake on the command line take seconds."""
    code = PROBE.format(heavy=set(HEAVY), module=registry().methods[method.name][1].module, name=method.name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    for line in done.stderr.splitlines():
        step, *found = line.split(",")
        if found and set(found) <= set(HEAVY):
            fix = "import them inside the functions that need them; for annotations, under `if TYPE_CHECKING:`."
            raise NotConforming(method.name, f"`{step}` imports {', '.join(found)}", fix)
    if done.returncode:
        raise NotConforming(method.name, f"list or --help fails:\n{done.stderr}", "fix what the last line names.")

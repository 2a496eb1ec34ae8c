"""Checks without torch what a method declares: its class, docstrings, and module's imports."""

from __future__ import annotations

import re
import subprocess
import sys

from alignzoo.config.declared import find_fault
from alignzoo.plugin.method import Method
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError
from alignzoo.testing.finding import NotConforming

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
        if "\n" in str(error):  # it names the plugins that are left out, with the reason
            fix = "mend what keeps the plugin out."
        raise NotConforming(name, str(error), fix) from None


def check_declarations(method: type[Method]) -> None:
    """Refuse what the installed TRL does not have; what is of another type keeps a plugin from being registered."""
    fault = find_fault(method)
    if fault:
        fix = f"mend it in {method.__module__}; `python -m alignzoo describe method={method.name}` lists the fields."
        raise NotConforming(method.name, fault, fix)


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

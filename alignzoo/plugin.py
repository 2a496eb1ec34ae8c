"""One installed plugin: where it comes from, its import, and what that import did that it should not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

OWN = "alignzoo"  #: the distribution whose names and options nobody takes
DISABLED = "disabled by ALIGNZOO_DISABLED_PLUGINS"
HEAVY = ("torch", "transformers", "datasets", "trl")  #: what a plugin imports inside functions only
SLOW = 1.0  #: seconds to import; milliseconds are usual, and each command pays for it


@dataclass(frozen=True)
class Plugin:
    """An installed plugin: its entry point, where it comes from, and what keeps it out (None: it is in use)."""

    name: str
    module: str
    distribution: str
    version: str
    problem: str | None = None

    @property
    def origin(self) -> str:
        """The distribution and its version, as pip names them."""
        return f"{self.distribution} {self.version}"

    @property
    def broken(self) -> bool:
        """Whether it is left out, and not because the user asked for it."""
        return self.problem not in (None, DISABLED)


def load(entry: importlib.metadata.EntryPoint) -> tuple[Any, list[str]]:
    """Import what ``entry`` names; return it, and remarks on what the import should not have done.

    Raises:
        BaseException: whatever the plugin raises, and SystemExit where it ends the process.
        RuntimeError: it requires another version of alignzoo.
    """
    unmet = unmet_requirement(entry.dist, OWN, importlib.metadata.version(OWN)) if entry.dist else None
    if unmet:
        raise RuntimeError(f"it requires {unmet}, and this is {importlib.metadata.version(OWN)}: upgrade the older one")
    started, before = time.perf_counter(), set(sys.modules)
    with contained() as printed:
        module = entry.load()
    seconds = time.perf_counter() - started
    heavy = [name for name in HEAVY if name in sys.modules and name not in before]
    remarks = (
        [f"imports {', '.join(heavy)} when it is loaded: import inside the functions that need it"] if heavy else []
    )
    remarks += [f"takes {seconds:.1f} s to import, which each command pays for"] if seconds > SLOW else []
    said = printed.getvalue().strip()
    remarks += [f"prints when it is loaded: {said.splitlines()[0]!r}"] if said else []
    return module, remarks


@contextlib.contextmanager
def contained() -> Iterator[io.StringIO]:
    """Run a plugin's code so that it can neither end the process nor write into what a command prints.

    ``os._exit`` raises SystemExit meanwhile. A crash in native code still ends the process;
    ``ALIGNZOO_DISABLED_PLUGINS`` then leaves the plugin out.
    """
    end, inside, printed = os._exit, True, io.StringIO()

    def ended(status: int) -> NoReturn:
        if inside:
            raise SystemExit(f"{status}, by os._exit")
        end(status)  # the plugin kept this function

    os._exit = ended
    try:
        with contextlib.redirect_stdout(printed):
            yield printed
    finally:
        inside, os._exit = False, end
        print(printed.getvalue(), end="", file=sys.stderr)  # a print in a plugin under development is not lost


def unmet_requirement(distribution: importlib.metadata.Distribution, name: str, version: str) -> str | None:
    """Return the requirement of ``distribution`` on ``name`` that ``version`` does not meet, or None.

    pip checks it when a plugin is installed, but not when alignzoo is upgraded beneath it.
    """
    text = distribution.read_text("METADATA") or ""  # not `requires`: that parses the whole file as a message
    wanted = re.findall(rf"^Requires-Dist: {name}(?:\[[^\]]*\])? *\(?([<>=!~][^;)\n]*)\)?$", text, re.MULTILINE)
    if not wanted:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for specifier in wanted:
        with contextlib.suppress(InvalidSpecifier):
            if not SpecifierSet(specifier).contains(version, prereleases=True):
                return f"{name}{specifier}"
    return None


def said(error: BaseException) -> str:
    """Return an error in one line."""
    return next(iter(f"{type(error).__name__}: {error}".splitlines()))

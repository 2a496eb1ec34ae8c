"""Loads a plugin, and remarks on what its import should not have done."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.resources
import io
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from alignzoo.plugin import time_limit
from alignzoo.plugin.hooks import PROJECT
from alignzoo.plugin.time_limit import HEAVY, limit_time

log = logging.getLogger(__name__)

OWN = "alignzoo"  #: the distribution whose names and options nobody takes
DISABLED = "disabled by ALIGNZOO_DISABLED_PLUGINS"

#: What is said of an option that alignzoo's own files have, and its installed list of plugins has not.
OUTDATED = (
    "alignzoo has it, but its installed list of plugins is older. In a checkout: `pip install -e .` again; else: "
    "`pip install --upgrade alignzoo`."
)
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


def find_entry_points() -> list[importlib.metadata.EntryPoint]:
    """Return the entry points of every plugin; a distribution whose list of them cannot be read is left out."""
    with contextlib.suppress(Exception):  # one bad list, and Python reads none
        return list(importlib.metadata.entry_points(group=PROJECT))
    found: list[importlib.metadata.EntryPoint] = []
    for distribution in importlib.metadata.distributions():
        try:
            found += distribution.entry_points.select(group=PROJECT)
        except Exception as error:
            where = getattr(distribution, "_path", "of a distribution")
            log.warning(
                "the entry points in %s cannot be read (%s): its plugins are left out", where, summarise_error(error)
            )
    return found


def is_outdated(kind: str, name: str, plugins: Iterable[Plugin]) -> bool:
    """Tell whether alignzoo's own files have ``kind=name``, where none of its own plugins is missing for a reason.

    A plugin whose module has moved does not count: the list that names it is older than the files.
    """
    missing = [plugin.problem for plugin in plugins if plugin.distribution == OWN and plugin.problem]
    if any("No module named 'alignzoo_plugins" not in problem for problem in missing):
        return False
    options = importlib.resources.files("alignzoo_conf").joinpath(kind)
    return re.fullmatch(r"\w+", str(name)) is not None and options.joinpath(f"{name}.yaml").is_file()


def read_name_and_version(distribution: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """Return a distribution's name and version; ``unknown`` where its metadata do not say, or cannot be read."""
    with contextlib.suppress(Exception):
        facts = distribution.metadata if distribution else None  # read once: there are hundreds
        if facts and facts["Name"]:
            return facts["Name"], facts["Version"] or "unknown"
    return "unknown", "unknown"


def load_plugin(entry: importlib.metadata.EntryPoint) -> tuple[Any, list[str]]:
    """Import what ``entry`` names; return it, and remarks on what the import should not have done.

    Raises:
        BaseException: whatever the plugin raises, and SystemExit where it ends the process.
        TookTooLong: its import does not end.
        RuntimeError: it requires another version of alignzoo.
    """
    unmet = find_unmet_requirement(entry.dist, OWN, importlib.metadata.version(OWN)) if entry.dist else None
    if unmet:
        raise RuntimeError(f"it requires {unmet}, and this is {importlib.metadata.version(OWN)}: upgrade the older one")
    started, before, threads = time.perf_counter(), set(sys.modules), set(threading.enumerate())
    with contain(f"the import of plugin {entry.name}") as printed:
        module = entry.load()
    seconds = time.perf_counter() - started
    heavy = [name for name in HEAVY if name in sys.modules and name not in before]
    remarks = (
        [f"imports {', '.join(heavy)} when it is loaded: import inside the functions that need it"] if heavy else []
    )
    remarks += [f"takes {seconds:.1f} s to import, which each command pays for"] if seconds > SLOW else []
    if any(not thread.daemon for thread in threading.enumerate() if thread not in threads):
        remarks += ["starts a thread when it is loaded: no command ends before it"]
    output = printed.getvalue().strip()
    remarks += [f"prints when it is loaded: {output.splitlines()[0]!r}"] if output else []
    return module, remarks


class _PluginOutput(io.StringIO):
    """Collects what a plugin prints. A plugin may close what it takes for the terminal, and is read all the same."""

    def close(self) -> None:
        """Stay open."""


@contextlib.contextmanager
def contain(what: str, limit: float | None = None) -> Iterator[io.StringIO]:
    """Run a plugin's code so that it can neither end nor hang the process, nor write into what a command prints.

    ``what`` names the code; ``limit`` is in seconds, :data:`alignzoo.plugin.time_limit.LIMIT` where it is None.
    ``os._exit`` raises SystemExit meanwhile; the working folder and both outputs are put back. A crash in native code
    still ends the process; ``ALIGNZOO_DISABLED_PLUGINS`` then leaves the plugin out.
    """
    end, inside, printed, hydra = os._exit, True, _PluginOutput(), _hydra()

    def refuse_exit(status: int) -> NoReturn:
        if inside:
            raise SystemExit(f"{status}, by os._exit")
        end(status)  # the plugin kept this function

    # patch: os _exit
    os._exit = refuse_exit
    try:
        outputs = contextlib.redirect_stdout(printed), contextlib.redirect_stderr(sys.stderr)
        with contextlib.chdir("."), outputs[0], outputs[1], limit_time(what, limit or time_limit.LIMIT):
            yield printed
    finally:
        inside, os._exit = False, end
        if _hydra() is not hydra:  # a plugin began to compose something, and alignzoo could not any more
            sys.modules["hydra.core.global_hydra"].GlobalHydra.instance().hydra = hydra
        print(printed.getvalue(), end="", file=sys.stderr)  # a print in a plugin under development is not lost


def _hydra() -> Any:
    """Return Hydra's application in this process, None where there is none; Hydra itself is not imported for it."""
    module = sys.modules.get("hydra.core.global_hydra")
    return module.GlobalHydra.instance().hydra if module else None


def find_unmet_requirement(distribution: importlib.metadata.Distribution, name: str, version: str) -> str | None:
    """Return the requirement of ``distribution`` on ``name`` that ``version`` does not meet, or None.

    pip checks it when a plugin is installed, but not when alignzoo is upgraded beneath it.
    """
    # Not `requires`: that parses the whole file as a message. A checkout's egg-info keeps it under its second name.
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    wanted = re.findall(rf"^Requires-Dist: {name}(?:\[[^\]]*\])? *\(?([<>=!~][^;)\n]*)\)?$", text, re.MULTILINE)
    if not wanted:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for specifier in wanted:
        with contextlib.suppress(InvalidSpecifier):
            if not SpecifierSet(specifier).contains(version, prereleases=True):
                return f"{name}{specifier}"
    return None


def summarise_error(error: BaseException) -> str:
    """Return an error in one line."""
    try:
        text = str(error)
    except Exception as unsayable:
        text = f"without a text ({type(unsayable).__name__})"
    return next(iter(f"{type(error).__name__}: {text}".splitlines()))

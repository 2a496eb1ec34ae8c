"""Runs only what computes nothing: ``pytest --pure`` skips each test that would import torch or what builds on it.

So a Python or a set of versions is tried in minutes, where torch is not installed or has no build. TRL and transformers
need their files, which alignzoo reads, and nothing that they import.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

#: What needs torch, and torch.
COMPUTING = ("torch", "transformers", "datasets", "trl", "peft", "accelerate", "safetensors", "multiprocess")


class _Skip:
    """Takes the place of the loader of a module: skips the test that imports it."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        pytest.skip(f"needs {spec.name}", allow_module_level=True)

    def exec_module(self, module: ModuleType) -> None:
        """Never reached; importlib asks for it."""


class SkipComputing:
    """Finds the modules that compute, installed or not, and leaves all others to those who find them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in COMPUTING:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        spec = importlib.machinery.ModuleSpec(name, _Skip(), origin=found and found.origin)  # type: ignore[arg-type]
        spec.submodule_search_locations = found and found.submodule_search_locations
        return spec


def skip_computing(config: pytest.Config) -> None:
    """Skip from now on what computes."""
    loaded = [name for name in COMPUTING if name in sys.modules]
    if loaded:
        raise pytest.UsageError(f"--pure: {', '.join(loaded)} was imported before the first test")
    sys.meta_path.insert(0, SkipComputing())  # type: ignore[arg-type]
    importlib.metadata.version = _read_version
    if not hasattr(config, "workerinput"):  # xdist's processes tell the first one, which counts
        config.pluginmanager.register(_Count(config.getoption("--pure")), "pure-count")


version = importlib.metadata.version


def _read_version(name: str) -> str:
    """Return the version of an installed package; skip the test that asks for the one of what is not there."""
    try:
        return version(name)
    except importlib.metadata.PackageNotFoundError:
        if name in COMPUTING:
            pytest.skip(f"needs {name}", allow_module_level=True)
        raise


class _Count:
    """Fails a session in which fewer tests passed than there are pure ones: else one that skips all of them passes."""

    def __init__(self, least: int) -> None:
        self.least, self.passed = least, 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.passed < self.least and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"{self.passed} pure tests passed; at least {self.least} must")

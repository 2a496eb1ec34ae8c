"""What tests share: a cache of their own, composed configs, packages installed for one test, and the command line."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from light import Light
from omegaconf import DictConfig
from pure import skip_computing

from alignzoo.config.compose import compose
from alignzoo.plugin import registry

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["WANDB_MODE"] = "offline"
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; programs inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "SLIPCOVER_COVERAGE_DIR" in os.environ:  # programs that tests start are measured too
    covered = str(Path(__file__).parent / "shims" / "covered")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (covered, os.environ.get("PYTHONPATH"))))

#: A run that takes a second: random weights, few rows, short answers.
QUICK = ("model=tiny", "dataset.rows=16", "evaluate.rows=4", "evaluate.max_new_tokens=8")

#: Of the files that are not slow as a whole, those that take longest.
LONG = ("test_run", "test_peak", "test_budget", "test_precompute", "test_training", "test_own_methods", "test_losses")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long files begin first, so that the last one to end is a short one; else the order is random."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, item.path.stem not in LONG))


def pytest_collection_finish() -> None:
    """Leave all that is there for good out of garbage collections, of which each run makes three."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "what tests/launch/faults injects (pytest tests/launch/faults -m faults)")
    group.addoption("--faults", type=int, default=25, help="how many, over all that is disturbed")
    group.addoption("--seed", type=int, default=0, help="which, and when")
    group.addoption("--strategies", default="single,ddp", help="into runs with which strategies, as a,b")
    parser.addoption("--pure", type=int, metavar="N", help="skip what imports torch; at least N tests must pass")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--pure") is not None:
        skip_computing(config)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print what each test that injects faults did, and how many were survived of those that were asked for."""
    ended = {report.nodeid: report for found in terminalreporter.stats.values() for report in found if is_last(report)}
    found = [dict(report.user_properties) for report in ended.values()]
    if faults := [one for one in found if "faults" in one]:
        for one in faults:
            terminalreporter.write_line(one.get("outcome", "not survived"))
        wanted, survived = (sum(one.get(name, 0) for one in faults) for name in ("faults", "survived"))
        terminalreporter.write_line(f"{survived} of {wanted} faults, seed {config.getoption('--seed')}")


def is_last(report: Any) -> bool:
    """Tell whether this is the report of a test's end."""
    return isinstance(report, pytest.TestReport) and report.when == "call"


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Fail a test that leaves one of alignzoo's loggers quieter than it was: the warnings of later tests are lost."""
    before = _loggers()
    yield
    assert _loggers() == before


def _loggers() -> dict[str, tuple[int, bool]]:
    """Return the level of each of alignzoo's loggers, and whether it says nothing, where that is not as it began."""
    found = {"root": logging.root, **logging.root.manager.loggerDict}
    own = {name: log for name, log in found.items() if name.partition(".")[0] in ("root", "alignzoo")}
    states = {name: (log.level, log.disabled) for name, log in own.items() if isinstance(log, logging.Logger)}
    return {name: state for name, state in states.items() if state != (logging.NOTSET, False)}


@pytest.fixture
def chance(request: pytest.FixtureRequest, cell: str) -> random.Random:
    """Decide which faults the test of ``cell`` injects, and when: the same ones by the same ``--seed``."""
    return random.Random(f"{request.config.getoption('--seed')} {cell}")


@pytest.fixture
def report_faults(
    wanted: int, record_property: Callable[[str, object], None]
) -> Callable[[str, Counter[str], str], None]:
    """Report of a test that injects ``wanted`` faults which have met their target and were survived."""
    record_property("faults", wanted)

    def report(what: str, seen: Counter[str], outcome: str) -> None:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()) if count)
        record_property("survived", seen.total())
        record_property("outcome", f"{what}: {wanted} faults ({counts}) {outcome}")

    return report


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep what tests make out of the user's cache; shared by the whole session, subprocesses included."""
    folder = Path(os.environ.get("ALIGNZOO_TEST_CACHE") or tmp_path_factory.mktemp("cache"))
    os.environ["ALIGNZOO_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model of random weights, for all tests that leave it as it is."""
    from alignzoo.models.tiny import make_tiny

    folder = tmp_path_factory.mktemp("start")
    make_tiny(folder)
    return folder


@pytest.fixture
def compose_config() -> Callable[..., DictConfig]:
    """Compose the app's config as the command line would."""

    return lambda *overrides: compose(overrides)


@pytest.fixture
def fake_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a plugin package for one test: real files, real entry point metadata, no pip."""

    installed: set[str] = set()

    def install(name: str, code: str, configs: dict[str, str] | None = None) -> None:
        installed.add(name)
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text(code)
        for path, text in {"__init__.py": "", **(configs or {})}.items():
            file = package / "conf" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[alignzoo]\n{name} = {name}\n")
        registry.registry.cache_clear()

    monkeypatch.syspath_prepend(tmp_path)
    registry.registry.cache_clear()
    yield install
    registry.registry.cache_clear()
    for module in [module for module in sys.modules if module.partition(".")[0] in installed]:
        del sys.modules[module]


@pytest.fixture(scope="session")
def light_process(cache: Path) -> Iterator[Light]:
    """Start the process that runs what must import nothing heavy."""
    light = Light()
    yield light
    light.close()


@pytest.fixture
def alignzoo_light(light_process: Light, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``alignzoo`` in an empty folder, in a process that must not import torch, transformers, datasets or TRL."""

    def run(*words: str, cwd: Path = tmp_path, **variables: str) -> subprocess.CompletedProcess[str]:
        return light_process.run(*words, cwd=cwd, **variables)

    return run


@pytest.fixture
def alignzoo(tmp_path: Path, pytestconfig: pytest.Config) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m alignzoo`` in an empty folder, as a user would."""
    if pytestconfig.getoption("--pure") is not None:
        pytest.skip("starts a program that may compute")

    def run(
        *words: str, cwd: Path = tmp_path, timeout: float = 300, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alignzoo", *words]
        environment = {**os.environ, **variables}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout, check=False
        )

    return run

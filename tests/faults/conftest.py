"""How many faults, which, and over which strategies: ``pytest tests/faults -m faults --faults 100 --seed 7``."""

from __future__ import annotations

import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--faults", type=int, default=24, help="faults to inject, over all methods")
    group.addoption("--seed", type=int, default=random.SystemRandom().randrange(10_000), help="which faults, and when")
    group.addoption("--strategies", default="single", help="strategies to inject them into, as a,b")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "strategy" in metafunc.fixturenames:
        metafunc.parametrize("strategy", metafunc.config.getoption("--strategies").split(","))

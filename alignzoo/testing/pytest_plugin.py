"""Provides pytest with the fixtures of :mod:`alignzoo.testing`, and reports its failing checks.

pytest loads this module at every start where alignzoo is installed, so it imports only what pytest imports.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from alignzoo.plugin.method import Method
    from alignzoo.testing.runs import Run


@pytest.fixture(scope="class")
def alignzoo_method(request: pytest.FixtureRequest) -> type[Method]:
    """The method of a :class:`alignzoo.testing.Conformance`; checks are skipped without it."""
    from alignzoo.testing import NotConforming
    from alignzoo.testing.contract import find_method

    try:
        return find_method(request.cls.name)
    except NotConforming:
        pytest.skip("see test_is_registered")


@pytest.fixture(scope="class")
def alignzoo_training_run(
    request: pytest.FixtureRequest, alignzoo_method: type[Method], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """One training of the method on a separable set, which several checks share."""
    from alignzoo.testing.learning import train_on_separable

    return train_on_separable(alignzoo_method, tmp_path_factory.mktemp("learned"), request.cls.words)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the check found; above it, where the method's own code raised."""
    report = yield
    kit = sys.modules.get("alignzoo.testing.finding")  # not imported: no test of this session uses the kit
    finding = call.excinfo.value if kit and call.excinfo else None
    if kit and isinstance(finding, kit.NotConforming):
        cause = finding.__cause__
        raised = "".join(traceback.format_exception(cause)) + "\n" if cause else ""
        report.longrepr = f"{raised}{finding}"
    return report

"""Provides pytest with the fixtures of :mod:`alignzoo.testing`, and reports its failing checks.

pytest loads this module at every start where alignzoo is installed, so it imports only what pytest imports.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from alignzoo.plugin.method import Method
    from alignzoo.testing.runs import Run


def _skip_if_refused(test: str, check: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``check`` returns; where it refuses, ``test`` says why, and whoever builds on it is skipped."""
    from alignzoo.testing import NotConforming

    try:
        return check(*arguments)
    except NotConforming:
        pytest.skip(f"see {test}")


@pytest.fixture(scope="class")
def alignzoo_registered(request: pytest.FixtureRequest) -> type[Method]:
    """The method of a :class:`alignzoo.testing.Conformance`; checks are skipped without it."""
    from alignzoo.testing.contract import find_method

    found: type[Method] = _skip_if_refused("test_is_registered", find_method, request.cls.name)
    return found


@pytest.fixture(scope="class")
def alignzoo_declared(alignzoo_registered: type[Method]) -> type[Method]:
    """The method, if TRL has what it declares."""
    from alignzoo.testing.contract import check_declarations

    _skip_if_refused("test_declares_what_it_is", check_declarations, alignzoo_registered)
    return alignzoo_registered


@pytest.fixture(scope="class")
def alignzoo_method(alignzoo_declared: type[Method]) -> type[Method]:
    """The method, if it can be chosen: its YAML is there, with keys that its config has."""
    from alignzoo.testing.keys import check_fields

    _skip_if_refused("test_sets_fields_that_its_config_has", check_fields, alignzoo_declared)
    return alignzoo_declared


@pytest.fixture(scope="class")
def alignzoo_runnable(request: pytest.FixtureRequest, alignzoo_method: type[Method]) -> type[Method]:
    """The method, if its defaults pass the checks before a run."""
    from alignzoo.testing.keys import check_defaults

    _skip_if_refused("test_composes_with_its_defaults", check_defaults, alignzoo_method, request.cls.words)
    return alignzoo_method


@pytest.fixture(scope="class")
def alignzoo_training_run(
    request: pytest.FixtureRequest, alignzoo_runnable: type[Method], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """One training of the method on a separable set, which several checks share."""
    from alignzoo.testing.learning import train_on_separable

    return train_on_separable(alignzoo_runnable, tmp_path_factory.mktemp("learned"), request.cls.words)


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

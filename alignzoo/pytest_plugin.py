"""pytest's side of :mod:`alignzoo.testing`: a failing check is reported by its finding, without the kit's own frames.

pytest loads this module at every start where alignzoo is installed, so it imports nothing that pytest does not.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Generator
from typing import Any

import pytest


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

"""The conformance kit: the whole test of a plugin's method is one line, and pytest reports one test a check.

    from alignzoo.testing import conformance

    TestSimPO = conformance("simpo")

Installed with alignzoo as a pytest plugin, which prints what a failing check found and what mends it.
"""

from alignzoo.testing.finding import NotConforming
from alignzoo.testing.suite import Conformance, conformance

__all__ = ["Conformance", "NotConforming", "conformance"]

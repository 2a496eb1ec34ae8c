"""The kit in pytest: one test a check, findings without the kit's own frames, and no cost where it is not used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BROKEN = '''
"""Fake, https://arxiv.org/abs/2309.06657."""
from alignzoo import DataFormat, Method, hookimpl

class Fake(Method):
    """Hinge loss."""
    name = "fake_broken"
    data = DataFormat.UNPAIRED
    config = "trl:KTOConfig"
    trainer = "trl:KTOTrainer"
    def build_trainer(self, parts):
        raise RuntimeError("no GPU for you")

@hookimpl
def alignzoo_methods():
    return [Fake]

@hookimpl
def alignzoo_config_packages():
    return ["fake_broken.conf"]
'''

KIT = """
from alignzoo.testing import conformance

TestFake = conformance("fake_broken")
TestLost = conformance("fake_lost")
"""


def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in ``folder``, with no configuration but the environment's plugins."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:slipcover", "-v", *words]
    environment = {**os.environ, "PYTEST_ADDOPTS": "", "COLUMNS": "200"}
    for name in ("CI", "BUILD_NUMBER"):  # pytest would repeat every message whole in its summary
        environment.pop(name, None)
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def test_each_check_is_a_test_and_ends_in_its_fix(fake_package: Callable[..., None], tmp_path: Path) -> None:
    fake_package("fake_broken", BROKEN, {"method/fake_broken.yaml": "name: fake_broken\nlearning_rate: 1e-6\n"})
    (tmp_path / "test_fake.py").write_text(KIT)
    done = run_pytest(tmp_path, "test_fake.py")
    assert done.returncode == 1
    report = done.stdout
    for line in (
        "::TestFake::test_is_registered PASSED",
        "::TestFake::test_names_its_source FAILED",
        "::TestFake::test_trains_on[marked-answers] FAILED",
        "::TestLost::test_is_registered FAILED",
        "::TestLost::test_trains_an_adapter SKIPPED (see test_is_registered)",
    ):
        assert line in report
    assert "::TestFake::test_trains_on[good-answers]" not in report
    assert "the docstring's first line cites no paper: 'Hinge loss.'\nFix: begin the docstring of Fake" in report
    assert "fake_lost: method=fake_lost: no installed plugin adds it." in report
    assert "raise RuntimeError" in report, "the author's own line is shown"
    assert "fake_broken: method/fake_broken.yaml: no comment stands above 'name'\nFix: " in report
    assert "fake_broken: training on marked-answers: RuntimeError: no GPU for you\nFix: " in report
    assert "raise NotConforming" not in report
    last = report.splitlines()[-1]
    failed, errors = (int(re.search(rf"(\d+) {what}", last)[1]) for what in ("failed", "error"))
    assert report.count("\nFix: ") == failed + errors


#: What is wrong in one place -> the one test that says so, and what.
ONCE = {
    "config": (
        '"trl:KTOConfig"',
        '"trl:KTOKonfig"',
        "test_declares_what_it_is",
        "its config trl:KTOKonfig is not in TRL",
    ),
    "pinned": (
        "def build",
        "pinned = {'bta': 1}\n    def build",
        "test_declares_what_it_is",
        "pinned field 'bta' is not in",
    ),
    "data": ("DataFormat.UNPAIRED", "DataFormat.SCORED", "test_is_registered", "whose data is not one of"),
    "YAML": ("fake_once.conf", "alignzoo_conf", "test_sets_fields_that_its_config_has", "is in no config package"),
}


@pytest.mark.parametrize("wrong", ONCE)
def test_one_fault_is_one_failing_test(fake_package: Callable[..., None], tmp_path: Path, wrong: str) -> None:
    """In this process: the fault is found before anything is loaded, and what builds on it is skipped."""
    old, new, test, said = ONCE[wrong]
    code = BROKEN.replace("Hinge loss.", "Hinge loss (Zhao, 2023).").replace("fake_broken", "fake_once")
    assert old in code
    yaml = "# What.\nname: fake_once\n\n# How.\nlearning_rate: 1e-6\n"
    fake_package("fake_once", code.replace(old, new), {"method/fake_once.yaml": yaml})
    file = tmp_path / f"test_once_{wrong.lower()}.py"
    file.write_text('from alignzoo.testing import conformance\n\nTestOnce = conformance("fake_once")\n')
    seen = Seen()
    pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(file)], plugins=[seen])
    assert seen.failed.keys() == {test}
    assert said in seen.failed[test]
    assert seen.skipped > 8


class Seen:
    """Notes the reports of a session of pytest inside of this one."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.skipped = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed[report.nodeid.rpartition("::")[2]] = str(report.longrepr)
        self.skipped += report.skipped


def test_the_plugin_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n\ndef test_plain():\n"
        "    heavy = {'torch', 'transformers', 'trl', 'datasets', 'pandas', 'alignzoo.plugin.registry'}\n"
        "    heavy |= {'alignzoo.testing.suite', 'alignzoo.testing.finding'}\n"
        "    assert 'alignzoo.testing.pytest_plugin' in sys.modules\n"
        "    assert not heavy & sys.modules.keys()\n"
    )
    done = run_pytest(tmp_path, "test_plain.py", "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert done.returncode == 0, done.stdout


WORDS = """
from alignzoo.testing import Conformance, conformance

TestDPO = conformance("dpo", "method.beta=-1")

class TestMine(Conformance):
    __test__ = True
    name = "dpo"
"""

PICKED = "TestDPO and (composes or declares_its_reference) or TestMine and (declares_what or names_its_source)"


def test_words_reach_each_training_and_a_subclass_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "test_words.py").write_text(WORDS)
    done = run_pytest(tmp_path, "test_words.py", "-k", PICKED)
    assert "method=dpo: method.beta=-1 must be above 0" in done.stdout
    assert "::TestDPO::test_declares_its_reference SKIPPED (see test_composes_with_its_defaults)" in done.stdout
    assert len(re.findall(r"::TestMine::\w+ PASSED", done.stdout)) == 2, done.stdout

"""alignzoo-ppo as its users meet it: built, installed beside alignzoo's wheel, tested far from the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import QUICK
from test_packages import ROOT, Installed, environment

PACKAGE = Path("docs", "examples", "alignzoo-ppo")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout: a build leaves folders beside what it builds."""
    folder = tmp_path_factory.mktemp("sources") / "main"
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("alignzoo", "conf", "plugins", PACKAGE):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def ppo(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Return an environment with the wheels of alignzoo and alignzoo-ppo, and neither checkout."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run([*command, str(copy), str(copy / PACKAGE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return environment(tmp_path_factory, "ppo", *map(str, folder.glob("*.whl")))


def test_what_is_tested_here_is_the_wheel(ppo: Installed) -> None:
    for file in ppo.run(
        "-c", "import alignzoo, alignzoo_ppo as p; print(alignzoo.__file__, p.__file__)"
    ).stdout.split():
        assert ppo.venv in Path(file).parents


def test_the_method_trains(ppo: Installed) -> None:
    """16 prompts in two rollouts of 8, each trained on 4 times in 2 mini-batches."""
    ppo.alignzoo("method=ppo", *QUICK, "hydra.run.dir=run")
    result = json.loads((ppo.folder / "run" / "result.json").read_text())
    assert (result["method"], result["cost"]["steps"], result["plan"]["updates"]) == ("ppo", 16, 16)
    packages = json.loads((ppo.folder / "run" / "environment.json").read_text())["packages"]
    assert packages["alignzoo-ppo"] == "0.1.0"


def test_its_own_tests_pass(ppo: Installed, copy: Path) -> None:
    done = ppo.run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(copy / PACKAGE / "tests"), check=False)
    assert done.returncode == 0, done.stdout

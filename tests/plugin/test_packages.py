"""Third parties' methods as their users meet them: built, installed beside alignzoo's wheel, run far from the checkout.

Heavy dependencies come from this interpreter's own site-packages; alignzoo and the packages of docs/examples do not.
"""

from __future__ import annotations

import functools
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import QUICK
from light import Light
from repository import ROOT

pytestmark = pytest.mark.slow

EXAMPLES = [Path("docs", "examples", name) for name in ("alignzoo-slic", "alignzoo-online-ipo")]
METHODS = tuple(sorted({*(file.stem for file in Path(ROOT, "conf", "method").glob("*.yaml")), "online_ipo", "slic"}))

#: Two steps; the first one's learning rate is 0.
SHORT = (*QUICK, "train.max_steps=2")


@dataclass(frozen=True)
class Installed:
    """An environment with alignzoo and the packages of docs/examples, and a folder far from the checkout to work in."""

    venv: Path
    folder: Path

    def run(self, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
        command = [str(self.venv / "bin" / "python"), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=environment, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def alignzoo(self, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "alignzoo", *words, check=check, **variables)

    @functools.cached_property
    def light(self) -> Light:
        """A process of this environment, for all commands that train nothing."""
        return Light(self.venv / "bin" / "python")

    def command(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that trains nothing."""
        return self.light.run(*words, cwd=self.folder, **variables)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the checkout: a build leaves folders beside what it builds."""
    folder = tmp_path_factory.mktemp("sources") / "main"
    folder.mkdir()
    for name in ("alignzoo", "conf", "plugins", *EXAMPLES):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheels(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the wheels, by distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    packages = [str(sources), *(str(sources / package) for package in EXAMPLES)]
    done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {file.name.split("-")[0]: file for file in folder.glob("*.whl")}


def environment(tmp_path_factory: pytest.TempPathFactory, name: str, *packages: str) -> Installed:
    """Make an environment that sees this one's packages behind its own, and install ``packages`` into it."""
    venv = tmp_path_factory.mktemp(name) / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    folder = tmp_path_factory.mktemp("far-away")
    (folder / "notes.txt").touch()
    made = Installed(venv, folder)
    flags = ("--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed", "--no-warn-script-location")
    made.run("-m", "pip", "install", "-q", *flags, *packages)
    return made


@pytest.fixture(scope="module")
def installed(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    made = environment(tmp_path_factory, "wheel", *map(str, wheels.values()))
    yield made
    made.light.close()


@pytest.fixture(scope="module")
def editable(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    packages = [word for package in EXAMPLES for word in ("-e", str(sources / package))]
    made = environment(tmp_path_factory, "editable", "-e", str(sources), *packages)
    yield made
    made.light.close()


@pytest.fixture(params=["installed", "editable"])
def either(request: pytest.FixtureRequest) -> Installed:
    """Return both environments, one after the other."""
    made: Installed = request.getfixturevalue(request.param)
    return made


def test_the_wheel_holds_what_the_checkout_does(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["alignzoo"]) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    folders = {"alignzoo": "alignzoo", "conf": "alignzoo_conf", "plugins": "alignzoo_plugins"}
    wanted = {
        f"{package}/{file.relative_to(ROOT / folder)}"
        for folder, package in folders.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    made_from = {f"alignzoo/data/concise/{name}" for name in ("make.py", "candidates.jsonl", "prompts.txt")}
    made_from |= {f"alignzoo/data/{name}/make.py" for name in ("counted", "sums", "treasure")}
    assert made_from <= wanted
    assert held == wanted - made_from  # of the shipped dataset, what it was made from stays in the checkout


def test_the_wheels_metadata_registers_the_plugins_and_the_script(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["alignzoo"]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        text = archive.read(name).decode()
    assert "alignzoo = alignzoo.cli:main" in text
    assert text.count("= alignzoo_plugins.") == len(list(pkgutil.iter_modules([str(ROOT / "plugins")])))


def test_what_is_tested_here_is_not_the_checkout(either: Installed, sources: Path) -> None:
    code = "import alignzoo, alignzoo_conf, alignzoo_plugins, alignzoo_slic as s; print(alignzoo.__file__, s.__file__)"
    for file in either.run("-c", code).stdout.split():
        assert ROOT not in Path(file).parents
        assert {either.venv, sources} & set(Path(file).parents)


def test_list_shows_the_method_with_its_distribution(either: Installed) -> None:
    lines = either.command("list", "method", COLUMNS="200").stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("slic"))
    assert "Sequence Likelihood Calibration (Zhao et al., 2023)" in line
    assert line.rstrip().endswith("alignzoo-slic 0.3.1")
    assert all(any(line.startswith(f"{method} ") for line in lines) for method in METHODS)
    assert "left out" not in "".join(lines)


def test_help_offers_the_option_beside_ours(either: Installed) -> None:
    text = either.command("--help").stdout
    assert f"method: {', '.join(METHODS)}\n" in text
    assert text.startswith("alignzoo ")


def test_the_option_composes(either: Installed) -> None:
    cfg = yaml.safe_load(either.command("method=slic", "--cfg", "job", "--resolve").stdout)
    assert (cfg["method"]["name"], cfg["method"]["delta"]) == ("slic", 1.0)
    assert cfg["method"]["learning_rate"] == cfg["method"]["learning_rates"]["small"]


def test_wheel_and_editable_compose_the_same(installed: Installed, editable: Installed) -> None:
    for words in (("method=slic",), ("experiment=zephyr-qlora",)):
        assert installed.command(*words, "--cfg", "job").stdout == editable.command(*words, "--cfg", "job").stdout


def test_the_installed_script_runs(either: Installed) -> None:
    script = either.venv / "bin" / "alignzoo"
    done = subprocess.run([script, "method=slicc"], capture_output=True, text=True, cwd=either.folder, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("alignzoo: method=slicc: no such option. Did you mean slic")


def test_a_mistake_in_a_third_partys_key_is_answered_as_in_ours(installed: Installed) -> None:
    done = installed.command("method=slic", "method.delte=1")
    assert done.returncode == 1
    assert done.stderr == ("alignzoo: method.delte: unknown key. Did you mean method.delta?\n")
    done = installed.command("method=slic", "+method.ld_alpha=0.5")
    assert done.returncode == 1
    assert done.stderr.startswith("alignzoo: method.ld_alpha=0.5: method=slic sets it to None.")


def test_tab_completion_offers_the_option(installed: Installed) -> None:
    query = ("-sc", "query=bash")
    offered = installed.command(*query, COMP_LINE="alignzoo method=", COMP_POINT="16").stdout.split()
    assert offered == [f"method={method}" for method in METHODS]
    assert installed.command(*query, COMP_LINE="alignzoo method=sl", COMP_POINT="18").stdout == "method=slic\n"
    keys = installed.command(*query, COMP_LINE="alignzoo method=slic method.del", COMP_POINT="31").stdout.split()
    assert "method.delta=" in keys


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_tab_completion_works_in_a_real_shell(installed: Installed) -> None:
    line = "alignzoo method=sl"
    script = f"""
eval "$(alignzoo -sc install=bash)"
complete -p alignzoo >&2
COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD=1
hydra_bash_completion
echo "${{COMPREPLY[@]}}"
"""
    path = f"{installed.venv / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, cwd=installed.folder, env={**os.environ, "PATH": path}
    )
    assert done.stdout == "method=slic\n", done.stderr
    assert "hydra_bash_completion alignzoo" in done.stderr


@pytest.mark.parametrize("disabled", ["slic", "slic,dpo"])
def test_the_deny_list_takes_the_package_out(installed: Installed, disabled: str) -> None:
    done = installed.command("method=slic", ALIGNZOO_DISABLED_PLUGINS=disabled)
    assert done.returncode == 1
    assert "Plugin slic (alignzoo-slic 0.3.1) is left out: disabled by ALIGNZOO_DISABLED_PLUGINS." in done.stderr


@pytest.mark.parametrize(
    "package", [EXAMPLES[0], pytest.param(EXAMPLES[1], marks=pytest.mark.long)], ids=lambda package: package.name
)
def test_the_packages_own_tests_pass(installed: Installed, sources: Path, package: Path) -> None:
    words = ("-p", "no:cacheprovider", "-p", "no:slipcover")
    done = installed.run("-m", "pytest", "-q", *words, str(sources / package / "tests"), check=False)
    assert done.returncode == 0, done.stdout


def test_the_method_trains(installed: Installed) -> None:
    installed.alignzoo("method=slic", *QUICK, "hydra.run.dir=run")
    run = installed.folder / "run"
    result = json.loads((run / "result.json").read_text())
    assert result["method"] == "slic"
    assert result["cost"]["steps"] == 4
    assert result["after"]["margin"] != 0
    assert (run / "model" / "model.safetensors").is_file()
    packages = json.loads((run / "environment.json").read_text())["packages"]
    assert packages["alignzoo-slic"] == "0.3.1"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert "rewards/accuracies" in lines[0]


def members(folder: Path) -> dict[str, dict[str, object]]:
    """Return the results of a sweep's jobs by method."""
    found = [json.loads(file.read_text()) for file in sorted(folder.glob("*/result.json"))]
    return {result["method"]: result for result in found}


@pytest.mark.long
def test_a_sweep_holds_a_third_partys_method_beside_ours(installed: Installed) -> None:
    """On the same rows: pairs, and the prompts of these pairs."""
    done = installed.alignzoo("-m", "method=dpo,slic,ppo", *SHORT, "reward=length", "hydra.sweep.dir=sweep")
    found = members(installed.folder / "sweep")
    assert found.keys() == {"dpo", "slic", "ppo"}
    assert "failed" not in done.stdout
    assert found["dpo"]["data"] == found["slic"]["data"] == found["ppo"]["data"]
    assert set(pd.read_csv(installed.folder / "sweep" / "leaderboard.csv")["method"]) == found.keys()


@pytest.mark.long
def test_the_classic_pipeline_ends_in_ppo(installed: Installed) -> None:
    """Supervised fine-tuning, a reward model, and PPO against it: two steps each."""
    overrides = 'pipeline.stages.ppo.overrides=["method.max_completion_length=12"]'
    installed.alignzoo("+pipeline=rlhf", *SHORT, overrides, "hydra.run.dir=rlhf")
    stages = {path.parent.name: json.loads(path.read_text()) for path in installed.folder.glob("rlhf/*/result.json")}
    assert {name: stage["method"] for name, stage in sorted(stages.items())} == {
        "1-sft": "sft",
        "2-reward": "reward",
        "3-ppo": "ppo",
    }
    assert stages["3-ppo"]["start"]["folder"] == str(installed.folder / "rlhf" / "1-sft" / "model")
    assert stages["3-ppo"]["against"] == stages["1-sft"]["start"]
    assert (installed.folder / "rlhf" / "3-ppo" / "model" / "value_head.safetensors").is_file()


@pytest.mark.long
def test_a_sweep_runs_in_joblibs_processes(installed: Installed) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = installed.alignzoo(
        "-m", "method=ipo,slic", *launcher, *SHORT, "evaluate.enabled=false", "hydra.sweep.dir=parallel"
    )
    assert members(installed.folder / "parallel").keys() == {"ipo", "slic"}
    assert "failed" not in done.stdout


def test_without_the_package_the_method_is_not_there(
    alignzoo_light: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """The same interpreter, the same dependencies: only the package is missing."""
    done = alignzoo_light("method=slic")
    assert done.returncode == 1
    assert done.stderr.startswith("alignzoo: method=slic: no such option.")

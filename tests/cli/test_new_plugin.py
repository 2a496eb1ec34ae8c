"""``alignzoo new-plugin``: the package that it makes installs, runs and passes its tests; names are checked."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import QUICK
from inprocess import call
from repository import ROOT

from alignzoo import UserError
from alignzoo.cli import run_command
from alignzoo.cli.new_plugin import FILES

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    assert run_command(["new-plugin", "my_hinge", "--folder", str(folder)]) == 0
    return folder / "alignzoo-my-hinge"


@pytest.fixture(scope="module")
def python(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Install the package with pip into an environment of its own, behind which this one's packages lie."""
    venv = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    # addsitedir, and not the bare path: this environment's own editable installs are there too.
    (site / "parent.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(venv / "bin" / "python"), *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=made, env={**os.environ}, check=False)

    done = run("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "-e", ".")
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.long
def test_the_package_passes_its_own_tests(python: Run) -> None:
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:slipcover")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout.splitlines()[-1]
    assert "skipped" not in done.stdout.splitlines()[-1].replace("1 skipped", "")
    assert "the method gives no equation" not in done.stdout


#: A method that no list of methods has, written from docs/how-to/add-a-method.md alone.
GPO = '''"""Generalized Preference Optimization, with a truncated quadratic.

Tang et al., 2024, "Generalized Preference Optimization: A Unified Approach to Offline Alignment",
https://arxiv.org/abs/2402.05749. Loss of a pair: max(0, 1 - beta x (log-ratio of chosen - log-ratio of rejected))^2.
"""

from alignzoo import PairLoss, hookimpl


class GPO(PairLoss):
    """Generalized Preference Optimization (Tang et al., 2024): a squared hinge on the margin."""

    name = "gpo"
    needs_reference = True

    @classmethod
    def loss(cls, cfg, pairs):
        """The truncated quadratic of each pair's margin."""
        return (1 - cfg.method.beta * (pairs.chosen.log_ratio - pairs.rejected.log_ratio)).clamp(min=0) ** 2

    @classmethod
    def equation(cls, cfg, batch):
        """Tang et al., 2024, f(x) = max(0, 1 - x)^2."""
        chosen, rejected = (batch[name].log_ratio.sum(-1) for name in ("chosen", "rejected"))
        return (1 - cfg.method.beta * (chosen - rejected)).relu().square().mean()


@hookimpl
def alignzoo_methods():
    return [GPO]


@hookimpl
def alignzoo_config_packages():
    return ["alignzoo_gpo.conf"]
'''

GPO_YAML = """# GPO (Tang et al., 2024). Any other field of trl.DPOConfig: `+method.field=value`.
name: gpo

# Strength of the pull towards the start model. Above 0.
beta: 0.1

# Peak learning rates: DPO's, as a place to start from. full: 1B and more. small: below. adapter: LoRA, QLoRA.
learning_rates: {full: 5.0e-7, small: 5.0e-6, adapter: 5.0e-6}

learning_rate: ${method.learning_rates.${peft.rate}}
"""


def test_a_loss_written_from_the_docs_takes_less_than_25_lines_and_passes_the_kit(python: Run, made: Path) -> None:
    assert run_command(["new-plugin", "gpo", "--folder", str(made.parent)]) == 0
    folder = made.parent / "alignzoo-gpo"
    (folder / "alignzoo_gpo" / "__init__.py").write_text(GPO)
    (folder / "alignzoo_gpo" / "conf" / "method" / "gpo.yaml").write_text(GPO_YAML)
    assert count_lines(folder / "alignzoo_gpo", "gpo") < 25
    done = python("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "-e", str(folder))
    assert done.returncode == 0, done.stderr
    done = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:slipcover", "--rootdir", str(folder), str(folder)
    )
    assert done.returncode == 0, done.stdout
    assert "the method gives no equation" not in done.stdout


def test_the_method_is_listed_trains_and_sweeps(python: Run, made: Path) -> None:
    assert "alignzoo-my-hinge 0.1.0" in python("-m", "alignzoo", "list").stdout
    words = ("method=dpo,my_hinge", *QUICK, "evaluate.enabled=false", "hydra.sweep.dir=outputs/sweep")
    done = python("-m", "alignzoo", "-m", *words)
    assert done.returncode == 0, done.stderr
    results = [json.loads(file.read_text()) for file in made.glob("outputs/sweep/*/result.json")]
    assert {result["method"] for result in results} == {"dpo", "my_hinge"}


def test_its_wheel_holds_the_module_and_the_yaml(python: Run, tmp_path: Path) -> None:
    done = python("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), ".")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = "alignzoo_my_hinge"
    assert held == {f"{package}/{file}" for file in ("__init__.py", "conf/__init__.py", "conf/method/my_hinge.yaml")}


def test_its_noxfile_has_the_sessions_that_it_names(python: Run) -> None:
    done = python("-m", "nox", "-l")
    assert done.returncode == 0, done.stderr
    assert "* tests" in done.stdout
    assert "- demo" in done.stdout


def count_lines(package: Path, name: str) -> int:
    """Return the lines that a method takes with its YAML, without blank ones, comments and docstrings."""
    tree = ast.parse((package / "__init__.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    lines = [*ast.unparse(tree).splitlines(), *(package / f"conf/method/{name}.yaml").read_text().splitlines()]
    return len([line for line in lines if line.strip() and not line.strip().startswith("#")])


def test_its_files_parse_and_its_method_is_short(made: Path) -> None:
    for file in made.rglob("*.py"):
        ast.parse(file.read_text())
    project = tomllib.loads((made / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["alignzoo"] == {"my_hinge": "alignzoo_my_hinge"}
    assert project["dependencies"][0].startswith("alignzoo>=0.")
    option = yaml.safe_load((made / "alignzoo_my_hinge/conf/method/my_hinge.yaml").read_text())
    assert option["name"] == "my_hinge"
    assert count_lines(made / "alignzoo_my_hinge", "my_hinge") < 25
    kit = (made / "tests" / "test_my_hinge.py").read_text()
    assert 'TestMyHinge = conformance("my_hinge")' in kit


@pytest.fixture(scope="module")
def game(made: Path) -> Path:
    assert run_command(["new-plugin", "my_guess", "--environment", "--folder", str(made.parent)]) == 0
    return made.parent / "alignzoo-my-guess"


def test_every_template_is_written(made: Path, game: Path) -> None:
    templates = ROOT / "alignzoo" / "cli" / "new_plugin" / "template"
    forms = {f"{form}.py.jinja" for form in ("pair_loss", "trainer", "environment")}
    named = {
        name.replace("{{ group }}", group) for group, files in FILES.items() for name in files if "form" not in name
    }
    assert {file.name for file in templates.iterdir()} == {f"{name}.jinja" for name in named} | forms
    for group, folder, name in (("method", made, "my_hinge"), ("environment", game, "my_guess")):
        written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        fill = {"{{ package }}": f"alignzoo_{name}", "{{ name }}": name, "{{ group }}": group}
        wanted = set(FILES[group].values())
        for mark, word in fill.items():
            wanted = {path.replace(mark, word) for path in wanted}
        assert wanted <= written


@pytest.mark.long
def test_an_environments_package_passes_its_own_tests_and_trains(python: Run, game: Path) -> None:
    for words in (
        ("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation", "-e", str(game)),
        ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:slipcover", str(game)),
        ("-m", "alignzoo", "method=grpo", "dataset=my_guess", *QUICK, "reward=length", "train.max_steps=5"),
    ):
        done = python(*words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "success" in done.stdout
    project = tomllib.loads((game / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["package-data"]["alignzoo_my_guess"] == ["*.jsonl"]


def test_the_longer_form_names_a_trainer(tmp_path: Path) -> None:
    assert run_command(["new-plugin", "my_trainer", "--trainer", "--folder", str(tmp_path)]) == 0
    package = tmp_path / "alignzoo-my-trainer" / "alignzoo_my_trainer"
    code = (package / "__init__.py").read_text()
    assert 'trainer = "trl:DPOTrainer"' in code
    assert "PairLoss" not in code
    assert "which TRL trainer it runs" in (package.parent / "README.md").read_text()


REFUSED = {
    "SimPO": "a name has lower-case letters, digits and _, a letter first. Did you mean simpo?",
    "online-dpo": "Did you mean online_dpo?",
    "2dpo": "a name has lower-case letters, digits and _, a letter first.",
    "../evil": "Did you mean evil?",
    "lambda": "a name has lower-case letters",
    "null": "method=null and YAML read this as None. Choose another name.",
    "nan": "read this as nan",
    "on": "read this as True",
    "dpo": "method=dpo is alignzoo 0.1.0's already. Choose another name.",
    "plugins": "a package alignzoo_plugins is installed already. Choose another name.",
}


def test_an_environments_name_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"environment=treasure is alignzoo 0\.1\.0's already"):
        run_command(["new-plugin", "treasure", "--environment", "--folder", str(tmp_path)])
    assert run_command(["new-plugin", "dpo", "--environment", "--folder", str(tmp_path)]) == 0, "no method's name"
    assert run_command(["new-plugin", "x", "--environment", "--trainer"]) != 0


@pytest.mark.parametrize(("name", "reason"), REFUSED.items(), ids=REFUSED)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UserError) as refused:
        run_command(["new-plugin", name, "--folder", str(tmp_path)])
    assert str(refused.value).startswith(f"new-plugin {name}: ")
    assert reason in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "alignzoo-mine").mkdir()
    with pytest.raises(UserError, match=r"alignzoo-mine exists already\. Delete it, or choose another"):
        run_command(["new-plugin", "mine", "--folder", str(tmp_path)])
    assert list((tmp_path / "alignzoo-mine").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        run_command(["new-plugin", "mine", "--folder", str(tmp_path / "file")])


def test_the_command_says_what_to_do_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("new-plugin", "mine")
    assert done.code == 0, done.err
    assert (tmp_path / "alignzoo-mine" / "pyproject.toml").is_file()
    assert "    cd alignzoo-mine\n    pip install -e . pytest\n    pytest\n" in done.out
    again = call("new-plugin", "mine")
    assert (again.code, again.out) == (1, "")
    assert again.err == (
        "alignzoo: new-plugin: alignzoo-mine exists already. Delete it, or choose another --folder or name.\n"
    )

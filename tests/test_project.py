"""What GitHub reads of the project: workflows, issue forms, the citation; and what the docs' site makes of links."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nox.registry
import pytest
import yaml
from repository import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [kind.rpartition(" ")[2] for kind in PROJECT["classifiers"] if "Python :: 3." in kind]


def load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sessions() -> set[str]:
    """Return what `nox -s` takes: names, and names with a Python."""
    load_file(ROOT / "noxfile.py")
    found = nox.registry.get()
    many = {name: made.python for name, made in found.items() if isinstance(made.python, list)}
    versions = {f"{name}-{python}" for name, pythons in many.items() for python in pythons}
    return {*found, *versions}


def read_yaml(file: Path) -> dict[str, Any]:
    found = yaml.load(file.read_text(encoding="utf-8"), yaml.BaseLoader)  # `on:` is no boolean, 3.10 no number
    assert isinstance(found, dict)
    return found


def list_calls(workflow: dict[str, Any]) -> Iterator[str]:
    """Yield each command of each job, once for each value of its matrix."""
    for job in workflow["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            (name,) = re.findall(r"\$\{\{ matrix\.(\w+) \}\}", step.get("run", "")) or [""]
            for value in matrix.get(name, [""]):
                yield step.get("run", "").replace(f"${{{{ matrix.{name} }}}}", value)


def called_sessions() -> list[str]:
    commands = [command for file in WORKFLOWS for command in list_calls(read_yaml(file))]
    return [match[1] for command in commands if (match := re.match(r"nox -s ([\w.-]+)", command))]


def test_the_workflows_name_sessions_that_exist(sessions: set[str]) -> None:
    called = called_sessions()
    assert called
    assert set(called) - sessions == set()


def test_the_workflows_run_what_the_continuous_integration_runs() -> None:
    own = re.findall(r"nox (?:--\S+ )?-s ([^\n]+)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert {name for line in own for name in line.partition(" -- ")[0].split()} <= set(called_sessions())


def test_every_python_is_run() -> None:
    jobs = [job for file in WORKFLOWS for job in read_yaml(file)["jobs"].values()]
    fixed = {step["with"]["python-version"] for job in jobs for step in job["steps"] if "with" in step}
    varied = {python for job in jobs for python in job.get("strategy", {}).get("matrix", {}).get("python", [])}
    assert sorted({*varied, *(python for python in fixed if "{" not in python)}) == PYTHONS


def test_the_citation_is_of_this_version() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    same = ("title", "version", "license", "abstract")
    assert [citation[key] for key in same] == [PROJECT[key] for key in ("name", "version", "license", "description")]


def test_who_reports_a_fault_shows_what_the_doctor_says() -> None:
    fields = {field.get("id"): field for field in read_yaml(ROOT / ".github/ISSUE_TEMPLATE/bug.yml")["body"]}
    assert fields["doctor"]["validations"]["required"] == "true"
    assert "`python -m alignzoo doctor`" in fields["doctor"]["attributes"]["description"]


def test_addresses_in_the_issue_forms_are_those_of_files() -> None:
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")]
    paths = [path for text in texts for path in re.findall(r"alignzoo/alignzoo/blob/main/([^)\s]+)", text)]
    assert len(paths) >= 3
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    return load_file(ROOT / "docs" / "site_hook.py")


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("../../conf", "https://host/tree/main/conf"),
        ("../../conf/config.yaml", "https://host/blob/main/conf/config.yaml"),
        ("../../CONTRIBUTING.md#words", "https://host/blob/main/CONTRIBUTING.md#words"),
        ("../examples", "https://host/tree/main/docs/examples"),
        ("../reference/data.md#layouts", "../reference/data.md#layouts"),
        ("../../no-such-file", "../../no-such-file"),
        ("no-such-page.md", "no-such-page.md"),
        ("https://arxiv.org/abs/2305.18290", "https://arxiv.org/abs/2305.18290"),
        ("#a-heading", "#a-heading"),
    ],
)
def test_a_link_to_a_file_of_the_repository_leads_there_in_the_site(hook: ModuleType, link: str, leads_to: str) -> None:
    text = hook.point_to_repository(f"see [it]({link}).", "how-to/page.md", {"reference/data.md"}, "https://host")
    assert text == f"see [it]({leads_to})."


def test_every_page_of_the_docs_is_in_the_navigation_once(hook: ModuleType) -> None:
    def flatten(found: Any) -> list[str]:
        if isinstance(found, str):
            return [found]
        return [page for item in (found.values() if isinstance(found, dict) else found) for page in flatten(item)]

    pages = sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))
    assert sorted(flatten(hook.list_pages())) == pages
    assert "mkdocs" not in sys.modules

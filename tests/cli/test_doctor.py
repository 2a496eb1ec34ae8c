"""``doctor``: every section on the terminal and as JSON, faults with their fix, and no secret."""

from __future__ import annotations

import importlib
import importlib.abc
import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from inprocess import call

from alignzoo.cli import doctor, run_command
from alignzoo.cli.doctor.accounts import check_accounts, find_token_place
from alignzoo.cli.doctor.check import Check, Verdict, broken, ok, warning
from alignzoo.cli.doctor.plugins import check_plugins

SECRET = "marker-4b1c-of-a-secret"
SECTIONS = ["machine", "packages", "device", "accounts", "plugins"]


def test_this_machine_is_fit_and_no_secret_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {SECRET}\n")
    variables = {"HF_TOKEN": SECRET, "WANDB_API_KEY": SECRET, "NETRC": str(tmp_path / "netrc"), "COLUMNS": "200"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = call("doctor")
    assert done.code == 0, done.out
    assert [line.split()[0] for line in done.out.splitlines() if line.strip() in SECTIONS] == SECTIONS
    assert "a token from HF_TOKEN" in done.out
    assert SECRET not in done.out + done.err


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [ok("a", "b", "c"), warning("a", "d", "e", "f"), broken("g", "h [i]", "j", "k")]
    monkeypatch.setattr(doctor, "all_checks", lambda: checks)
    assert run_command(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [Check(**{**line, "verdict": Verdict(line["verdict"])}) for line in found] == checks
    assert run_command(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "h [i]" in out
    assert "fix: k" in out
    assert "1 broken, 1 warnings, 1 ok" in out


def test_a_warning_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "all_checks", lambda: [warning("a", "d", "e", "f")])
    assert run_command(["doctor"]) == 0


def test_a_broken_plugin_is_broken_and_one_with_a_remark_is_warned_of(fake_package: Callable[..., None]) -> None:
    assert [check.verdict for check in check_plugins()] == [Verdict.OK]
    fake_package("fake_broken", "1 / 0")
    fake_package("fake_chatty", "print('hello')")
    first, second, third = check_plugins()
    assert (first.name, first.verdict) == ("fake_broken (fake_broken 1.0)", Verdict.BROKEN)
    assert "ZeroDivisionError" in first.found
    assert "ALIGNZOO_DISABLED_PLUGINS=fake_broken" in first.fix
    assert second.found == "prints when it is loaded: 'hello'"
    assert third.found == "has no hook: write functions marked with @hookimpl, such as alignzoo_methods"
    for remark in (second, third):
        assert (remark.name, remark.verdict) == ("fake_chatty (fake_chatty 1.0)", Verdict.WARNING)


def test_a_token_is_found_where_the_hub_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert find_token_place() is None
    (tmp_path / "token").write_text(SECRET)
    assert find_token_place() == str(tmp_path / "token")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert find_token_place() == "HF_TOKEN"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert next(iter(check_accounts())).verdict is Verdict.WARNING


class Ready(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module that was imported before, and taken out, without running it again."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name == self.module.__name__ else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        pass


def test_a_plugin_that_imports_torch_is_named_though_doctor_imports_it_too(
    fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plugins are loaded before the device is looked at: what they import is seen only while nobody else has."""
    torch = importlib.import_module("torch")
    monkeypatch.setattr(torch, "__spec__", torch.__spec__)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Ready(torch), *sys.meta_path])
    fake_package("fake_heavy", "import torch\n")
    found = {check.found for check in doctor.all_checks()}
    assert "imports torch when it is loaded: import inside the functions that need it" in found

"""Plugins: found, kept apart from each other's faults, named with their owners; nothing heavy before its time."""

from __future__ import annotations

import builtins
import importlib.metadata
import inspect
import logging
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from inprocess import call
from light import HEAVY
from omegaconf import DictConfig, OmegaConf
from repository import ROOT

from alignzoo import Reward, UserError
from alignzoo.config.options import config_options
from alignzoo.plugin import hooks as hookspecs
from alignzoo.plugin.loading import find_entry_points
from alignzoo.plugin.registry import Registry, registry

METHODS = tuple(sorted(file.stem for file in (ROOT / "conf" / "method").glob("*.yaml")))
REWARDS = ("conciseness", "count", "format", "length", "model", "verifiable")

Install = Callable[..., None]
Run = Callable[..., subprocess.CompletedProcess[str]]

#: A plugin that works.
GOOD = """
from alignzoo import DataFormat, Method, hookimpl

class Good(Method):
    "Good (nobody, 2030)."
    name = "{name}"
    data = DataFormat.PREFERENCE
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"

@hookimpl
def alignzoo_methods():
    return [Good]
"""

#: Plugins that do not, each with what is said of it.
BROKEN = {
    "imports what is not there": ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of"),
    "raises": ("raise RuntimeError('no GPU\\nfor you')", "RuntimeError: no GPU"),
    "does not parse": ("def f(:", "SyntaxError"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "has a hook that there is not": (
        "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_nonsense(): return []",
        "unknown hook 'alignzoo_nonsense'",
    ),
    "has a hook with a wrong argument": (
        "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_methods(cfg): return []",
        "PluginValidationError",
    ),
    "raises in a hook": (
        "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_methods(): raise KeyError('x')",
        "alignzoo_methods raised KeyError: 'x'",
    ),
    "exits in a hook": (
        "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_methods(): raise SystemExit(0)",
        "alignzoo_methods raised SystemExit: 0",
    ),
    "returns nothing": (
        "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_methods(): pass",
        "alignzoo_methods returned nothing: return a list",
    ),
    "returns no method": (
        "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_methods(): return [3]",
        "alignzoo_methods",
    ),
    "returns a method without a name": (
        "from alignzoo import Method, hookimpl\n@hookimpl\ndef alignzoo_methods(): return [Method]",
        "name",
    ),
}


@pytest.mark.parametrize(("code", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_left_out_and_breaks_no_other(
    fake_package: Install, caplog: pytest.LogCaptureFixture, code: str, reason: str
) -> None:
    fake_package("fake_a_broken", code)
    fake_package("fake_b_good", GOOD.format(name="good"))
    with caplog.at_level(logging.WARNING, logger="alignzoo"):
        found = Registry()
        assert set(found.methods) == {*METHODS, "good"}
        assert set(found.rewards) == set(REWARDS)
    plugin = found.plugins["fake_a_broken"]
    assert reason in str(plugin.problem)
    assert "\n" not in str(plugin.problem)
    assert not found.manager.has_plugin("fake_a_broken")
    assert found.plugins["fake_b_good"].problem is None
    said = [text for text in caplog.messages if "fake_a_broken" in text]
    assert len(said) == 1
    assert "fake_a_broken 1.0" in said[0]
    assert reason in said[0]


def test_a_broken_plugin_is_named_to_whoever_asks_for_a_method_that_is_not_there(fake_package: Install) -> None:
    fake_package("fake_broken", "import nothing_of_that_name")
    with pytest.raises(
        UserError, match=r"^method=good: no .*\nPlugin fake_broken \(fake_broken 1.0\) .*ModuleNotFound"
    ):
        Registry().method("good")
    with pytest.raises(UserError, match=r"^reward=lenght: .* Did you mean length\?\nPlugin fake_broken"):
        Registry().reward("lenght")


def test_a_method_newer_than_the_installed_list_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [entry for entry in find_entry_points() if entry.name != "unpaired"]
    moved = importlib.metadata.EntryPoint("kto", "alignzoo_plugins.kto", "alignzoo")
    vars(moved)["dist"] = importlib.metadata.distribution("alignzoo")
    for entries in (listed, [*listed, moved]):
        monkeypatch.setattr("alignzoo.plugin.registry.find_entry_points", lambda entries=entries: entries)
        with pytest.raises(UserError, match=r"^method=kto: alignzoo has it, .*: `pip install -e \.` again; else"):
            Registry().method("kto")
        with pytest.raises(UserError, match=r"^method=kton: no installed plugin adds it\."):
            Registry().method("kton")
    with pytest.raises(UserError, match=r"(?s)^method=dpo: no installed .*disabled by"):
        Registry("preference").method("dpo")


def test_a_broken_plugin_fails_only_the_list(fake_package: Install, alignzoo: Run) -> None:
    """In a process of its own, whose current folder holds the plugin."""
    fake_package("fake_broken", "import nothing_of_that_name")
    done = call("list")
    assert done.code == 0, "doctor judges"
    assert "left out: fake_broken (fake_broken 1.0): ModuleNotFoundError" in done.out
    assert all(method in done.out for method in METHODS)
    composed = alignzoo("--cfg", "job")
    assert composed.returncode == 0
    assert yaml.safe_load(composed.stdout)["method"]["name"] == "dpo"
    assert composed.stderr.count("fake_broken") == 1 + composed.stderr.count("(fake_broken")


def test_a_plugin_may_print_while_it_is_imported(fake_package: Install) -> None:
    fake_package("fake_chatty", "print('hello from fake_chatty')\n" + GOOD.format(name="chatty"))
    assert "chatty" in Registry().methods


def test_a_config_package_that_is_not_there_costs_only_its_own_options(
    fake_package: Install, caplog: pytest.LogCaptureFixture
) -> None:
    code = GOOD.format(name="good") + '\n@hookimpl\ndef alignzoo_config_packages(): return ["fake_lost.nowhere"]\n'
    fake_package("fake_lost", code)
    done = call("--cfg", "job", "method=ipo")
    assert done.code == 0, done.err
    assert yaml.safe_load(done.out)["method"]["name"] == "ipo"
    assert "Traceback" not in done.err
    assert "fake_lost" in caplog.text


def test_a_plugin_adds_options_and_shadows_none(
    fake_package: Install, compose_config: Callable[..., DictConfig]
) -> None:
    code = '\nfrom alignzoo import hookimpl\n@hookimpl\ndef alignzoo_config_packages(): return ["fake_thief.conf"]\n'
    configs = {"method/dpo.yaml": "name: stolen\n", "dataset/theirs.yaml": "name: theirs\npath: x.jsonl\n"}
    fake_package("fake_thief", code, configs)
    cfg = compose_config("method=dpo", "dataset=theirs")
    assert cfg.method.name == "dpo"
    assert cfg.dataset.path == "x.jsonl"


@pytest.mark.parametrize("disabled", ["fake_good", "unpaired, fake_good", " fake_good ,,nobody"])
def test_the_deny_list_keeps_a_plugin_from_being_imported(
    fake_package: Install, caplog: pytest.LogCaptureFixture, disabled: str
) -> None:
    fake_package("fake_good", GOOD.format(name="good"))
    found = Registry(disabled)
    assert "good" not in found.methods
    assert "fake_good" not in sys.modules
    assert found.plugins["fake_good"].problem == "disabled by ALIGNZOO_DISABLED_PLUGINS"
    assert caplog.messages == []
    assert ("kto" in found.methods) is ("unpaired" not in disabled)


def test_the_deny_list_is_an_environment_variable(fake_package: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package("fake_good", GOOD.format(name="good"))
    assert "good" in registry().methods
    unpaired = {name for name, (_, plugin) in registry().methods.items() if plugin.name == "unpaired"}
    monkeypatch.setenv("ALIGNZOO_DISABLED_PLUGINS", "fake_good,unpaired")
    registry.cache_clear()
    assert set(registry().methods) == {name for name in METHODS if name not in unpaired}


def test_a_disabled_plugin_does_not_fail_the_list(fake_package: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package("fake_broken", "import nothing_of_that_name")
    monkeypatch.setenv("ALIGNZOO_DISABLED_PLUGINS", "fake_broken")
    done = call("list")
    assert done.code == 0
    assert "left out: fake_broken (fake_broken 1.0): disabled by ALIGNZOO_DISABLED_PLUGINS" in done.out


def test_a_method_with_a_name_of_ours_is_not_used(fake_package: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_package("fake_dpo", GOOD.format(name="dpo"))
    version = importlib.metadata.version("alignzoo")
    found = Registry()
    assert found.methods["dpo"][1].distribution == "alignzoo"
    (remark,) = found.remarks["fake_dpo"]
    assert "method 'dpo' is added by " in remark
    assert f"preference (alignzoo {version})" in remark
    assert "fake_dpo (fake_dpo 1.0)" in remark
    assert "ALIGNZOO_DISABLED_PLUGINS=fake_dpo" in remark
    assert f"in use, but: fake_dpo (fake_dpo 1.0): {remark}" in call("list").out
    monkeypatch.setenv("ALIGNZOO_DISABLED_PLUGINS", "fake_dpo")
    registry.cache_clear()
    assert "in use, but" not in call("list").out


def test_a_reward_with_a_name_of_ours_names_both_owners(fake_package: Install) -> None:
    code = """
from alignzoo import Reward, hookimpl

class Length(Reward):
    name = "length"
    def __call__(self, prompts, completions, **columns):
        return [0.0] * len(completions)

@hookimpl
def alignzoo_rewards():
    return [Length]
"""
    fake_package("fake_rewards", code)
    found = Registry()
    assert found.rewards["length"][1].distribution == "alignzoo"
    (remark,) = found.remarks["fake_rewards"]
    assert remark.startswith("reward 'length' is added by ")
    assert "fake_rewards (fake_rewards 1.0)" in remark
    assert f"rewards (alignzoo {importlib.metadata.version('alignzoo')})" in remark


def test_two_distributions_may_give_their_entry_points_one_name(fake_package: Install, tmp_path: Path) -> None:
    fake_package("fake_one", GOOD.format(name="one"))
    fake_package("fake_two", GOOD.format(name="two"))
    for name in ("fake_one", "fake_two"):
        (tmp_path / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(f"[alignzoo]\nfake_same = {name}\n")
    found = Registry()
    assert {"one", "two"} < set(found.methods)
    assert {plugin.distribution for plugin in found.plugins.values() if "fake_same" in plugin.name} == {
        "fake_one",
        "fake_two",
    }


def test_one_distribution_found_twice_counts_once(
    fake_package: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_package("fake_good", GOOD.format(name="good"))
    monkeypatch.syspath_prepend(tmp_path / ".." / tmp_path.name)
    assert [name for name in Registry().plugins if "fake_good" in name] == ["fake_good"]


def test_each_method_comes_with_its_provenance(fake_package: Install) -> None:
    fake_package("fake_good", GOOD.format(name="good"))
    found = Registry()
    assert found.methods["good"][1].origin == "fake_good 1.0"
    assert found.methods["dpo"][1].origin == f"alignzoo {importlib.metadata.version('alignzoo')}"
    assert found.methods["dpo"][1].module == "alignzoo_plugins.preference"
    assert found.rewards["length"][1].name == "rewards"


def test_plugins_come_in_the_order_of_their_names(fake_package: Install) -> None:
    fake_package("fake_b", GOOD.format(name="b"))
    fake_package("fake_a", GOOD.format(name="a"))
    assert list(Registry().plugins) == sorted(Registry().plugins)
    assert [name for name in Registry().methods if name in ("a", "b")] == ["a", "b"]


def test_a_hook_takes_the_arguments_that_it_names(fake_package: Install) -> None:
    code = "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_callbacks({}): return [{}]\n"
    fake_package("fake_with", code.format("cfg", "cfg.seed"))
    fake_package("fake_without", code.format("", "'none'"))
    found = Registry().call("alignzoo_callbacks", cfg=OmegaConf.create({"seed": 7}))
    assert {plugin.name: item for plugin, item in found} == {"fake_with": 7, "fake_without": "none"}


def test_a_callback_hook_that_raises_leaves_the_others(fake_package: Install) -> None:
    code = "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_callbacks(cfg): return [{}]\n"
    fake_package("fake_bad", code.format("cfg.no_such_key"))
    fake_package("fake_fine", code.format("cfg.seed"))
    cfg = OmegaConf.create({"seed": 7})
    OmegaConf.set_struct(cfg, True)
    found = Registry()
    assert [item for _, item in found.call("alignzoo_callbacks", cfg=cfg)] == [7]
    assert "alignzoo_callbacks raised" in str(found.plugins["fake_bad"].problem)


def test_plugins_are_looked_for_and_imported_once(
    fake_package: Install, compose_config: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What 50 plugins cost at each start grows with this."""
    fake_package("fake_good", "import builtins\nbuiltins.fake_imports = getattr(builtins, 'fake_imports', 0) + 1\n")
    scans: list[str] = []
    real = importlib.metadata.entry_points

    def counted(**wanted: str) -> importlib.metadata.EntryPoints:
        scans.append(wanted.get("group", ""))
        return real(**wanted)

    monkeypatch.setattr(importlib.metadata, "entry_points", counted)
    monkeypatch.setattr(builtins, "fake_imports", 0, raising=False)
    for _ in range(2):
        compose_config("method=ipo")
        assert config_options()["method"].keys() == registry().methods.keys()
    assert scans.count("alignzoo") == 1
    assert vars(builtins)["fake_imports"] == 1


# What is first-party.


def test_every_module_in_plugins_is_an_entry_point_and_the_other_way_round() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["alignzoo"]
    files = (ROOT / "plugins").iterdir()
    modules = {path.stem for path in files if path.suffix == ".py" or (path / "__init__.py").is_file()} - {"__init__"}
    assert declared == {name: f"alignzoo_plugins.{name}" for name in modules}


def test_the_entry_points_are_those_installed() -> None:
    """Fails after a new entry point until ``pip install -e .`` is run again."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["alignzoo"]
    installed = importlib.metadata.distribution("alignzoo").entry_points.select(group="alignzoo")
    assert {entry.name: entry.value for entry in installed} == declared


def test_every_package_of_the_checkout_is_in_the_wheel() -> None:
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    packages = {"alignzoo": "alignzoo", "alignzoo_plugins": "plugins", "alignzoo_conf": "conf"}
    found = {
        ".".join((name, *path.parent.relative_to(ROOT / folder).parts))
        for name, folder in packages.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert found == declared


@pytest.mark.parametrize(("group", "kind"), [("method", "methods"), ("reward", "rewards")])
def test_every_method_and_reward_has_a_yaml_and_the_other_way_round(group: str, kind: str) -> None:
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / group).glob("*.yaml")}
    files.pop("none", None)
    assert files.keys() == getattr(Registry(), kind).keys()
    for name, content in files.items():
        assert content["name"] == name if group == "method" else list(content) == [name]


@pytest.mark.parametrize("name", REWARDS)
def test_a_reward_declares_what_can_be_listed(name: str) -> None:
    reward, _ = registry().rewards[name]
    assert issubclass(reward, Reward)
    assert not inspect.isabstract(reward)
    assert str(reward.__doc__).partition("\n")[0]


# The contract.


def hooks() -> dict[str, Callable[..., object]]:
    return {name: hook for name, hook in vars(hookspecs).items() if hasattr(hook, "alignzoo_spec")}


def test_the_hooks_are_these() -> None:
    """A hook once published stays: take one away, or add one, only on purpose."""
    names = ("methods", "config_packages", "rewards", "tools", "environments", "judges", "callbacks")
    assert list(hooks()) == [f"alignzoo_{name}" for name in names]


@pytest.mark.parametrize("name", list(hooks()))
def test_a_hook_says_what_to_return_and_when_it_is_called(name: str) -> None:
    text = inspect.getdoc(hooks()[name]) or ""
    assert text.startswith("Return ")
    assert "\n\nCalled " in text
    assert " must " in text.lower() or " may " in text.lower()
    assert inspect.signature(hooks()[name]).return_annotation.startswith("Iterable[")


# Nothing heavy before it is needed.


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--help", 0),
        ("--hydra-help", 0),
        ("--cfg job", 0),
        ("--info searchpath", 0),
        ("-sc install=bash", 0),
        ("list", 0),
        ("describe method=grpo reward=length model=tiny", 0),
        ("describe method=dqo", 1),
        ("method.bta=1", 1),
        ("+method.nonsense=1", 1),
        ("method.beta=big", 1),
        ("method=dqo", 1),
        ("method=grpo reward=none", 1),
        ("-m method=dpo,dqo", 1),
    ],
)
def test_what_trains_nothing_imports_nothing_heavy(alignzoo_light: Run, words: str, code: int) -> None:
    done = alignzoo_light(*words.split())
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_importing_alignzoo_or_a_plugin_imports_nothing_heavy() -> None:
    modules = [
        "alignzoo",
        "alignzoo.cli",
        "alignzoo.plugin.registry",
        "alignzoo.config.compose",
        "alignzoo.cli.list",
    ]
    modules += ["alignzoo.cli.describe", "alignzoo.cli.doctor", "alignzoo.config.trl_fields"]
    modules += ["alignzoo.launch.hydra_callback", "alignzoo.launch.launch"]
    modules += ["alignzoo.config.metrics", "alignzoo.testing", "alignzoo_plugins.judges"]
    modules += [entry.value for entry in importlib.metadata.entry_points(group="alignzoo")]
    code = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
    print(name, sorted(set({sorted(HEAVY)}) & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{name} []" for name in modules]


WRONG = {
    "config": (
        '"trl:DPOConfig"',
        '"trl:DPOKonfig"',
        "its config trl:DPOKonfig is not in TRL {trl}. Did you mean DPOConfig",
    ),
    "trainer": (
        '"trl:DPOTrainer"',
        '"trl.dpo:DPOTrainer"',
        "its trainer trl.dpo:DPOTrainer is not in TRL {trl}: it has no module trl.dpo. Did you mean trl:DPOTrainer?",
    ),
    "pinned": (
        "data =",
        "pinned = {{'bta': 1}}\n    data =",
        "its pinned field 'bta' is not in DPOConfig. Did you mean beta",
    ),
    "data": (
        "PREFERENCE",
        "SUPERVISED",
        "its data is DataFormat.SUPERVISED, and DPOTrainer reads DataFormat.PREFERENCE.",
    ),
}


@pytest.mark.parametrize("words", [(), ("plan",), ("check",)], ids=["run", "plan", "check"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_trl_does_not_have_is_said_in_one_line_before_anything_is_loaded(
    fake_package: Install, tmp_path: Path, wrong: str, words: tuple[str, ...]
) -> None:
    old, new, said = WRONG[wrong]
    code = GOOD.replace(old, new).format(name="wrong")
    assert code != GOOD.format(name="wrong")
    code += "\n@hookimpl\ndef alignzoo_config_packages(): return ['fake_wrong.conf']\n"
    fake_package("fake_wrong", code, {"method/wrong.yaml": "name: wrong\nlearning_rate: 1e-6\n"})
    done = call(*words, "method=wrong", "model=local", "model.path=/nowhere")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith("alignzoo: method=wrong (fake_wrong 1.0): ")
    assert said.format(trl=importlib.metadata.version("trl")) in line

"""Broken plugins, all installed at once: every other command works, and each is named with its reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from broken import BROKEN, CONFIGS, METHOD, YAML, Broken
from inprocess import run
from omegaconf import OmegaConf

from alignzoo.plugin.registry import Registry


def install(folder: Path, package: str, plugin: Broken) -> None:
    """Write the package and its metadata into ``folder``, as pip would; also what is no UTF-8."""
    info = f"{package}-1.0.dist-info"
    files = {
        f"{package}/__init__.py": plugin.code,
        f"{package}/conf/__init__.py": "",
        **{f"{package}/conf/{path}": text for path, text in plugin.configs.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: PACKAGE\nVersion: 1.0\nRequires-Dist: {plugin.requires}\n",
        f"{info}/entry_points.txt": f"[alignzoo]\n{plugin.entry}\n",
    }
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.replace("PACKAGE", package).encode("latin-1"))


PROBE = """
import os
from alignzoo.cli import main

folder = os.getcwd()
for words in (["list"], ["--cfg", "job"], ["--help"], ["describe", "method=good"], ["method=nobodys"]):
    try:
        main(words)
        code = 0
    except SystemExit as end:
        code = end.code
    print("code", code, "of", *words, "in", "the folder" if os.getcwd() == folder else os.getcwd(), flush=True)
"""


def package_of(name: str) -> str:
    return f"fake_{re.sub('[^a-z]', '_', name.lower())}"


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Run commands with every broken plugin installed, and one that works, in a process that they may try to end."""
    folder = tmp_path_factory.mktemp("broken")
    for name, plugin in BROKEN.items():
        install(folder, package_of(name), plugin)
    good = METHOD.replace("PACKAGE", "good") + CONFIGS
    install(folder, "fake_good", Broken(good, "", configs={"method/good.yaml": YAML}))
    return subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        check=True,
    )


@pytest.mark.parametrize("name", BROKEN)
def test_list_says_why(probed: subprocess.CompletedProcess[str], name: str) -> None:
    plugin, package = BROKEN[name], package_of(name)
    said = "left out" if plugin.out else "in use, but"
    lines = [line for line in probed.stdout.splitlines() if re.match(f"(left out|in use, but): {package} ", line)]
    assert all(line.startswith(f"{said}: {package} (") for line in lines)
    assert sum(plugin.reason.replace("PACKAGE", package) in line for line in lines) == 1
    assert len(lines) == 1 or not plugin.out


def test_the_other_commands_work(probed: subprocess.CompletedProcess[str]) -> None:
    listed, composed, helped, described, *_ = re.split("^code ", probed.stdout, flags=re.MULTILINE)
    assert {"dpo", "good"} <= {word.rstrip("*") for word in listed.split()}
    assert yaml.safe_load(composed.partition("\n")[2])["method"]["name"] == "dpo"
    assert ", good, grpo, " in helped
    assert "A strength." in described
    codes = [line for line in probed.stdout.splitlines() if line.startswith("code ")]
    assert [code.split()[1] for code in codes] == ["0", "0", "0", "0", "1"]
    assert all(code.endswith(" in the folder") for code in codes)
    assert "alignzoo: method=nobodys: no such option." in probed.stderr
    assert "Traceback" not in probed.stderr


@pytest.mark.parametrize(
    ("entry", "text"), [("fake_odd", "Pair.__new__"), ("fake_odd = fake_odd\n# caf\xe9", "UnicodeDecodeError")]
)
def test_a_list_of_entry_points_that_cannot_be_read_costs_its_own_plugins_only(
    tmp_path: Path, fake_package: Callable[..., None], caplog: pytest.LogCaptureFixture, entry: str, text: str
) -> None:
    """Python itself reads none then, of any distribution."""
    fake_package("fake_good", METHOD.replace("PACKAGE", "good"))
    install(tmp_path, "fake_odd", Broken(METHOD, "", entry=entry))
    found = Registry()
    assert {"dpo", "good"} < set(found.methods)
    assert "PACKAGE" not in found.methods
    assert "fake_odd-1.0.dist-info cannot be read" in caplog.text
    assert text in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "name: theirs\n\tbeta: 1\n",
            "theirs.yaml, line 2: not YAML: found character '\\t' that cannot start any token.",
        ),
        (
            "name: !!python/name:os.system\n",
            "theirs.yaml, line 1: not YAML: could not determine a constructor for the tag",
        ),
        ("beta: 0.1\n", "method.name is needed, and was deleted or is misspelt."),
        (
            "# caf\xe9\nname: theirs\n",
            "method=theirs (fake_broken 1.0) is not written in UTF-8: invalid continuation byte.",
        ),
        ("name: !!int ''\n", "method=theirs (fake_broken 1.0) cannot be read: IndexError string index out of range."),
        ("name: !!bool x\n", "method=theirs (fake_broken 1.0) cannot be read: KeyError 'x'."),
        ("name: \0\n", "method=theirs (fake_broken 1.0) cannot be read: ReaderError unacceptable character #x0000"),
        ("a: &a {b: *a}\n", "method=theirs (fake_broken 1.0) cannot be read: it is nested too deeply."),
        ("defaults: [3]\n", "method=theirs (fake_broken 1.0) cannot be read: Unsupported type in defaults : int."),
        ("defaults: [a: {b: 1}]\n", "method=theirs (fake_broken 1.0) cannot be read: Unsupported item value in "),
        ('defaults: ["\\ud800"]\n', "There are: alphapo, "),
        ("name: null\n", "method=None: no installed plugin adds it."),
    ],
)
def test_a_yaml_that_cannot_be_read_is_named(
    tmp_path: Path, fake_package: Callable[..., None], text: str, said: str
) -> None:
    code = METHOD.replace("PACKAGE", "theirs") + CONFIGS.replace("PACKAGE", "fake_broken")
    fake_package("fake_broken", code)
    file = tmp_path / "fake_broken" / "conf" / "method" / "theirs.yaml"
    file.parent.mkdir()
    file.write_bytes(text.encode("latin-1"))
    done = run(tmp_path / "run", "method=theirs")
    assert done.code == 1
    assert said in done.err.splitlines()[-1]
    assert "Traceback" not in done.err


def test_two_strangers_lose_a_common_name_and_nothing_else(fake_package: Callable[..., None]) -> None:
    fake_package("fake_one", METHOD.replace("PACKAGE", "same"))
    fake_package("fake_two", METHOD.replace("PACKAGE", "same"))
    found = Registry()
    assert "same" not in found.methods
    assert {"dpo", "sft"} < set(found.methods)
    with pytest.raises(Exception, match="neither is used") as refused:
        found.method("same")
    assert "fake_one (fake_one 1.0)" in str(refused.value)
    assert "fake_two (fake_two 1.0)" in str(refused.value)
    assert not any(plugin.problem for plugin in found.plugins.values())


def test_what_is_no_callback_is_left_out(fake_package: Callable[..., None]) -> None:
    from alignzoo.plugin.registry import registry
    from alignzoo.train.callbacks import find_plugin_callbacks

    code = "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_callbacks(cfg): return [3]\n"
    fake_package("fake_broken", code)
    assert list(find_plugin_callbacks(OmegaConf.create())) == []
    problem = "alignzoo_callbacks returned 3, which is not a transformers.TrainerCallback"
    assert registry().plugins["fake_broken"].problem == problem


def test_a_callback_hook_that_exits_leaves_the_run(fake_package: Callable[..., None]) -> None:
    code = "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_callbacks(cfg): __import__('os')._exit(5)\n"
    fake_package("fake_broken", code)
    found = Registry()
    assert list(found.call("alignzoo_callbacks", cfg={})) == []
    assert found.plugins["fake_broken"].problem == "alignzoo_callbacks raised SystemExit: 5, by os._exit"

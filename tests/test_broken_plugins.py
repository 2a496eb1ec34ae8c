"""Ten broken plugins, installed for real: every other command works, and each is named with its reason."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from alignzoo.registry import Registry

METHOD = """
from alignzoo import DataFormat, Method, hookimpl

class Theirs(Method):
    "Theirs (nobody, 2030)."
    name = "{name}"
    data = DataFormat.PREFERENCE
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"

@hookimpl
def alignzoo_methods():
    return [Theirs]
"""

HOOK = "\nfrom alignzoo import hookimpl\n@hookimpl\ndef {hook}():\n    {body}\n"


@dataclass(frozen=True)
class Broken:
    """A plugin that is wrong in one way, and what ``list`` says of it."""

    code: str
    reason: str
    out: bool = True
    """Whether it is left out; else it stays in use."""

    requires: str = "alignzoo>=0.1"
    configs: dict[str, str] = field(default_factory=dict)


def hook(name: str, body: str, before: str = METHOD.format(name="theirs")) -> str:
    return before + HOOK.format(hook=name, body=body)


def code_that_exits(how: str) -> str:
    return f"import os, sys\n{how}\n" + METHOD.format(name="theirs")


BROKEN = {
    "raises at import": Broken("1 / 0", "ZeroDivisionError: division by zero"),
    "raises in alignzoo_methods": Broken(
        hook("alignzoo_methods", "raise KeyError('x')", ""), "alignzoo_methods raised"
    ),
    "raises in alignzoo_config_packages": Broken(
        hook("alignzoo_config_packages", "raise KeyError('x')"), "alignzoo_config_packages raised KeyError: 'x'"
    ),
    "raises in alignzoo_rewards": Broken(
        hook("alignzoo_rewards", "raise OSError('x')"), "alignzoo_rewards raised OSErr"
    ),
    "raises in alignzoo_judges": Broken(
        hook("alignzoo_judges", "raise OSError('x')"), "alignzoo_judges raised OSError"
    ),
    "raises what is no Exception": Broken("class Odd(BaseException): pass\nraise Odd('no')", "Odd: no"),
    "returns a text for a list": Broken(hook("alignzoo_config_packages", "return 'a.b'"), "returned the text 'a.b'"),
    "returns a number as a package": Broken(
        hook("alignzoo_config_packages", "return [3]"), "no import name of a package"
    ),
    "returns no reward": Broken(hook("alignzoo_rewards", "return [Theirs]"), "no subclass of alignzoo.Reward"),
    "returns a reward that cannot be called": Broken(
        hook("alignzoo_rewards", "return [type('R', (__import__('alignzoo').Reward,), {'name': 'r'})]"),
        "lacks __call__",
    ),
    "returns no judge": Broken(hook("alignzoo_judges", "return [3]"), "no subclass of alignzoo.Judge"),
    "declares no data": Broken(
        METHOD.format(name="theirs").replace("DataFormat.PREFERENCE", "'pairs'"), "whose data is"
    ),
    "declares no trainer": Broken(
        METHOD.format(name="theirs").replace("trl:DPOTrainer", "DPO"), "whose trainer is not"
    ),
    "takes a name of ours": Broken(METHOD.format(name="dpo"), "alignzoo's is used", out=False),
    "has a YAML that shadows ours": Broken(
        hook("alignzoo_config_packages", "return ['fake_broken.conf']"),
        "its method=dpo is not used: alignzoo ",
        out=False,
        configs={"method/dpo.yaml": "name: stolen\n"},
    ),
    "prints at import": Broken(
        "print('good morning')\n" + METHOD.format(name="theirs"), "prints when it is", out=False
    ),
    "needs a missing package": Broken(
        "import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of"
    ),
    "wants another alignzoo": Broken(METHOD.format(name="theirs"), "it requires alignzoo>=9", requires="alignzoo>=9"),
    "is slow to import": Broken(
        "import time\ntime.sleep(1.1)\n" + METHOD.format(name="theirs"), "s to import", out=False
    ),
    "imports what is heavy": Broken(
        "import sys\nsys.modules['trl'] = sys\n" + METHOD.format(name="theirs"), "imports trl when it is", out=False
    ),
    "exits": Broken(code_that_exits("sys.exit(3)"), "SystemExit: 3"),
    "exits by os._exit": Broken(code_that_exits("os._exit(3)"), "SystemExit: 3, by os._exit"),
    "exits by os._exit in a hook": Broken(
        hook("alignzoo_config_packages", "__import__('os')._exit(3)"), "alignzoo_config_packages raised SystemExit: 3"
    ),
    "has a config package that exits": Broken(
        hook("alignzoo_config_packages", "return ['fake_broken.conf']"),
        "its config package fake_broken.conf is not there (SystemExit: 4",
        out=False,
        configs={"__init__.py": "import os; os._exit(4)"},
    ),
}


@pytest.fixture(params=BROKEN.values(), ids=BROKEN)
def broken(request: pytest.FixtureRequest, fake_package: Callable[..., None], tmp_path: Path) -> Iterator[Broken]:
    plugin: Broken = request.param
    fake_package("fake_broken", plugin.code, plugin.configs)
    with (tmp_path / "fake_broken-1.0.dist-info" / "METADATA").open("a") as file:
        file.write(f"Requires-Dist: {plugin.requires}\n")
    fake_package("fake_good", METHOD.format(name="good"))
    return plugin


PROBE = """
import sys
from alignzoo.cli import main

for words in (["list"], ["--cfg", "job"]):
    try:
        main(words)
        code = 0
    except SystemExit as end:
        code = end.code
    print("code", code, "of", *words)
"""


def test_the_other_commands_work_and_list_says_why(broken: Broken, tmp_path: Path) -> None:
    """In a process of their own, which the plugin may try to end."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        check=True,
    )
    listed, _, composed = done.stdout.partition("code 1 of list\n")
    said = "left out" if broken.out else "in use, but"
    (line,) = [line for line in listed.splitlines() if line.startswith(("left out", "in use, but"))]
    assert line.startswith(f"{said}: fake_broken (fake_broken 1.0): ")
    assert broken.reason in line
    assert all(any(row.startswith(f"{method} ") for row in listed.splitlines()) for method in ("dpo", "good"))
    config, _, code = composed.rpartition("code ")
    assert code == "0 of --cfg job\n"
    assert yaml.safe_load(config)["method"]["name"] == "dpo"
    assert "Traceback" not in done.stderr


def test_two_strangers_lose_a_common_name_and_nothing_else(fake_package: Callable[..., None]) -> None:
    fake_package("fake_one", METHOD.format(name="same"))
    fake_package("fake_two", METHOD.format(name="same"))
    found = Registry()
    assert "same" not in found.methods
    assert {"dpo", "sft"} < set(found.methods)
    with pytest.raises(Exception, match="neither is used") as refused:
        found.method("same")
    assert "fake_one (fake_one 1.0)" in str(refused.value)
    assert "fake_two (fake_two 1.0)" in str(refused.value)
    assert not any(plugin.problem for plugin in found.plugins.values())


def test_what_is_no_callback_is_left_out(fake_package: Callable[..., None]) -> None:
    from alignzoo.callbacks import plugin_callbacks
    from alignzoo.registry import registry

    code = "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_callbacks(cfg): return [3]\n"
    fake_package("fake_broken", code)
    assert list(plugin_callbacks(OmegaConf.create())) == []
    problem = "alignzoo_callbacks returned 3, which is no transformers.TrainerCallback"
    assert registry().plugins["fake_broken"].problem == problem


def test_a_callback_hook_that_exits_leaves_the_run(fake_package: Callable[..., None]) -> None:
    code = "from alignzoo import hookimpl\n@hookimpl\ndef alignzoo_callbacks(cfg): __import__('os')._exit(5)\n"
    fake_package("fake_broken", code)
    found = Registry()
    assert list(found.call("alignzoo_callbacks", cfg={})) == []
    assert found.plugins["fake_broken"].problem == "alignzoo_callbacks raised SystemExit: 5, by os._exit"

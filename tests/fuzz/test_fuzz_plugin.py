"""A distribution whose metadata are any bytes: its plugin works, or is left out and named; the others are in use."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import FUZZ, Files, damaged, write_over
from hypothesis import given
from hypothesis import strategies as st

from alignzoo.plugin.loading import read_name_and_version
from alignzoo.plugin.registry import Registry

INFO = "theirs-1.0.dist-info"
CODE = """
from alignzoo import DataFormat, Method, hookimpl

class Theirs(Method):
    "Theirs (nobody, 2030)."
    name = "theirs"
    data = DataFormat.PREFERENCE
    config = "trl:DPOConfig"
    trainer = "trl:DPOTrainer"

@hookimpl
def alignzoo_methods():
    return [Theirs]

@hookimpl
def alignzoo_config_packages():
    return ["theirs.conf"]
"""
METADATA = """Metadata-Version: 2.1
Name: theirs
Version: 1.0
Requires-Dist: alignzoo>=0.1
Requires-Dist: alignzoo[joblib] (>=0.1,<9) ; extra == "all"

# Theirs
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    folder = tmp_path_factory.mktemp("site")
    write_over(folder / "theirs" / "__init__.py", CODE.encode())
    write_over(folder / "theirs" / "conf" / "__init__.py", b"")
    write_over(folder / "theirs" / "conf" / "method" / "theirs.yaml", b"name: theirs\n")
    write_over(folder / INFO / "METADATA", METADATA.encode())
    write_over(
        folder / INFO / "entry_points.txt", b"[console_scripts]\nt = theirs:main\n\n[alignzoo]\ntheirs = theirs\n"
    )
    write_over(folder / INFO / "RECORD", b"theirs/__init__.py,sha256=47DEQpj8HBSa,9\n")
    write_over(folder / INFO / "top_level.txt", b"theirs\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield Files((name, content) for name, content in Files.read(folder).items() if name.startswith(INFO))


@FUZZ
@given(data=st.data())
def test_a_plugins_metadata_of_any_bytes(whole: Files, data: st.DataObject) -> None:
    import theirs

    folder = Path(theirs.__file__).parents[1]
    damage = data.draw(damaged(whole))
    write_over(folder / damage.name, damage.content)
    try:
        check_registry(Registry())
        for distribution in importlib.metadata.distributions(path=[str(folder)]):
            assert all(isinstance(text, str) for text in read_name_and_version(distribution))
    finally:
        write_over(folder / damage.name, damage.before)


def check_registry(found: Registry) -> None:
    assert {"dpo", "kto", "grpo"} <= found.methods.keys(), "alignzoo's own are in use"
    theirs = [plugin for plugin in found.plugins.values() if plugin.module.startswith("theirs")]
    used = "theirs" in found.methods
    assert used == any(not plugin.problem for plugin in theirs if plugin.module == "theirs")
    assert [text for _, text in found.faults if "\n" in text] == []
    assert all(isinstance(package, str) for _, package in found.config_packages)


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")

"""Options of a folder of YAML that hold any bytes: they are composed and checked, or the command says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzzing import FUZZ, Files, attempt, damaged, write_over
from hydra import compose, initialize_config_module
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given
from hypothesis import strategies as st

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.config.compose import prepare_hydra
from alignzoo.config.errors import explain

METHOD = b"""# Direct Preference Optimization, otherwise.
name: dpo
learning_rates: {full: 1.0e-5, small: 2.0e-5, adapter: 1.0e-4}
learning_rate: ${.learning_rates.${peft.rate}}
beta: 0.1
loss_type: [sigmoid]
"""
MODEL = b"# A model.\nname: mine\npath: null\ndtype: float32\n"
RECIPE = (
    b"# @package _global_\ndefaults:\n  - override /method: dpo\n  - override /model: tiny\ntrain:\n  max_steps: 3\n"
)
WORDS = {
    "method/mine.yaml": ["method=mine"],
    "model/mine.yaml": ["model=mine"],
    "experiment/mine.yaml": ["experiment=mine"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("options")
    for name, content in zip(WORDS, (METHOD, MODEL, RECIPE), strict=True):
        write_over(folder / name, content)
    prepare_hydra()
    GlobalHydra.instance().clear()
    with initialize_config_module("alignzoo_conf", version_base="1.3"):
        yield folder
    GlobalHydra.instance().clear()


@FUZZ
@given(data=st.data())
def test_an_option_of_any_bytes(folder: Path, data: st.DataObject) -> None:
    damage = data.draw(damaged(Files.read(folder)))
    write_over(folder / damage.name, damage.content)
    try:
        attempt(lambda: compose_and_check(folder, damage.name))
    finally:
        write_over(folder / damage.name, damage.before)


def compose_and_check(folder: Path, name: str) -> None:
    path = ConfigSearchPathImpl()
    path.append("mine", f"file://{folder}")
    try:
        # Alone first: a whole composition, which most of them do not reach, takes a hundred times as long.
        ConfigRepository(path).load_config(name)
        check(compose("config", overrides=[f"hydra.searchpath=['file://{folder}']", *WORDS[name]]))
    except UserError:
        raise
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        raise UserError(text) from error

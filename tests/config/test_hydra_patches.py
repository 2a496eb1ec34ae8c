"""The patches of Hydra: what needs them still does, and nothing else changes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from inprocess import call
from omegaconf import DictConfig, OmegaConf

from alignzoo.config import hydra_patches


def checked_as_by_python_3_14(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
    if action.help and "%s" in action.help:
        raise ValueError("badly formed help string")


def declares(*words: str, **options: str) -> argparse.Action:
    """Declare an option as Python 3.14 does, where an older one runs this test."""
    parser = argparse.ArgumentParser()
    action = parser.add_argument(*words, **options)  # type: ignore[arg-type]
    parser._check_help(action)  # type: ignore[attr-defined]
    return action


@pytest.fixture
def python_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", checked_as_by_python_3_14, raising=False)
    monkeypatch.setattr(hydra_patches, "CHECK", checked_as_by_python_3_14)


def test_hydras_options_are_declared_on_python_3_14(python_3_14: None) -> None:
    hydra_patches.patch_hydra()
    hydra_patches.patch_hydra()
    options = get_args_parser()._actions
    lazy = [action for action in options if action.help and not isinstance(action.help, str)]
    assert lazy, "Hydra gives texts alone now: alignzoo/config/hydra_patches.py is needed no longer"
    with pytest.raises(TypeError):
        checked_as_by_python_3_14(argparse.ArgumentParser(), lazy[0])
    for action in options:
        argparse.ArgumentParser._check_help(argparse.ArgumentParser(), action)  # type: ignore[attr-defined]


def test_a_text_is_checked_as_before(python_3_14: None) -> None:
    hydra_patches.patch_hydra()
    assert declares("--beta", help="of the method").help == "of the method"
    with pytest.raises(ValueError, match="badly formed"):
        declares("--beta", help="%s")


PLUGIN = """
from alignzoo import hookimpl

@hookimpl
def alignzoo_config_packages():
    return ["remembered.conf"]
"""


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Count how often Hydra composes, by the words that it composes from."""
    found: list[list[str]] = []
    compose = ConfigLoaderImpl._load_configuration_impl

    def counted(self: ConfigLoaderImpl, config_name: str, overrides: list[str], *args: Any, **more: Any) -> DictConfig:
        found.append(list(overrides))
        return compose(self, config_name, overrides, *args, **more)

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counted)
    return found


@pytest.fixture
def loader() -> Iterator[ConfigLoaderImpl]:
    hydra_patches.patch_hydra()
    GlobalHydra.instance().clear()
    with initialize_config_module("alignzoo_conf", version_base="1.3"):
        found = GlobalHydra.instance().config_loader()
        assert isinstance(found, ConfigLoaderImpl)
        yield found


def test_a_command_composes_once(composed: list[list[str]], tmp_path: Path) -> None:
    done = call("method=dpo", "model=tiny", "train.max_length=-1", f"hydra.run.dir={tmp_path}")
    assert done.code == 1, done.err
    assert len(composed) == 1


@pytest.mark.parametrize("words", [["method=dpo", "train.max_steps=3"], ["method=kto", "hydra.job.name=x"]])
@pytest.mark.parametrize("mode", list(RunMode))
def test_what_was_composed_for_the_mode_is_what_would_be_composed_for_the_run(
    loader: ConfigLoaderImpl, composed: list[list[str]], words: list[str], mode: RunMode
) -> None:
    run = [*words, f"hydra.mode={mode.name}"]
    alone = loader.load_configuration("config", run, mode)
    loader.load_configuration("config", words, RunMode.MULTIRUN, validate_sweep_overrides=False)
    taken = loader.load_configuration("config", run, mode)
    assert composed == [run, words]
    assert OmegaConf.to_container(taken) == OmegaConf.to_container(alone)
    assert type(taken.hydra.mode) is type(alone.hydra.mode)


def test_other_words_and_a_second_run_are_composed_anew(loader: ConfigLoaderImpl, composed: list[list[str]]) -> None:
    words = ["method=dpo"]
    loader.load_configuration("config", words, RunMode.MULTIRUN, validate_sweep_overrides=False)
    loader.load_configuration("config", ["method=ipo"], RunMode.RUN)
    loader.load_configuration("config", words, RunMode.RUN)
    loader.load_configuration("config", words, RunMode.RUN)
    assert composed == [words, ["method=ipo"], words, words]


def test_several_values_in_a_single_run_are_still_refused(loader: ConfigLoaderImpl) -> None:
    words = ["method.beta=0.1,0.2"]
    loader.load_configuration("config", words, RunMode.MULTIRUN, validate_sweep_overrides=False)
    with pytest.raises(ConfigCompositionException, match="Ambiguous value"):
        loader.load_configuration("config", words, RunMode.RUN)


def test_a_missing_choice_is_still_refused(loader: ConfigLoaderImpl) -> None:
    words = ["method=???"]
    loader.load_configuration("config", words, RunMode.MULTIRUN, validate_sweep_overrides=False)
    with pytest.raises(ConfigCompositionException, match="method"):
        loader.load_configuration("config", words, RunMode.RUN)


def test_a_file_that_changes_is_read_anew(
    fake_package: Callable[..., None], compose_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    fake_package("remembered", PLUGIN, {"train/own.yaml": "defaults: [default]\nmax_steps: 3\n"})
    assert compose_config("train=own").train.max_steps == 3
    (file,) = tmp_path.rglob("train/own.yaml")
    file.write_text("defaults: [default]\nmax_steps: 4\n")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert compose_config("train=own").train.max_steps == 4


def test_what_a_run_changes_is_not_remembered(compose_config: Callable[..., DictConfig]) -> None:
    compose_config("method=dpo").method.beta = 7.0
    assert compose_config("method=dpo").method.beta != 7.0

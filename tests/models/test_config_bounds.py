"""Configurations that describe models no machine can hold: each is answered within seconds, in a line."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inprocess import call
from omegaconf import DictConfig
from transformers import AutoModelForCausalLM

from alignzoo import UserError
from alignzoo.models import config_bounds, load
from alignzoo.models.config_bounds import check_config
from alignzoo.models.pretrained import RemoteCode, read_config, read_model, read_tokenizer
from alignzoo.models.tiny import make_tiny


@pytest.fixture
def model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # check writes its page there
    made = tmp_path_factory.getbasetemp() / "tiny-of-bounds"
    if not made.is_dir():
        make_tiny(made, seed=0)
    return Path(shutil.copytree(made, tmp_path / "model"))


def change(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("layers", [100_000, 10**9])
@pytest.mark.parametrize("read", [read_config, read_tokenizer, lambda *of: read_model(AutoModelForCausalLM, *of)])
def test_a_config_of_many_layers(model: Path, layers: int, read: Callable[[Path, RemoteCode], Any]) -> None:
    change(model, num_hidden_layers=layers)
    began = time.process_time()
    with pytest.raises(UserError, match=f"config.json says num_hidden_layers={layers:,}; at most 512 layers are made"):
        read(model, RemoteCode(allowed=False))
    assert time.process_time() - began < 60


def test_one_within_another(model: Path) -> None:
    change(model, text_config={"n_layer": 513})
    with pytest.raises(UserError, match="says n_layer=513"):
        check_config(model)


def test_far_more_layers_than_the_weights_have(model: Path) -> None:
    change(model, num_hidden_layers=65)
    with pytest.raises(
        UserError, match="num_hidden_layers=65, and the weights hold 2 layers: the others would be random"
    ):
        check_config(model)
    change(model, num_hidden_layers=64)
    check_config(model)


@pytest.mark.parametrize("changes", [{"hidden_size": 200_000, "head_dim": 16}, {"vocab_size": 10**10}])
def test_sizes_that_the_weights_do_not_have(
    model: Path, compose_config: Callable[..., DictConfig], changes: dict[str, int]
) -> None:
    change(model, **changes)
    began = time.process_time()
    with pytest.raises(UserError, match="its weights have other shapes than its config"):
        load.load_policy(model, compose_config("model=tiny"), "fp32")
    assert time.process_time() - began < 60


def test_a_config_nested_100_000_deep(model: Path) -> None:
    (model / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    done = call("check", "model=tiny", f"model.path={model}", "dataset.rows=8")
    assert (done.code, done.err) == (1, f"alignzoo: {model}: config.json cannot be read: it is nested too deeply.\n")


def test_check_says_it(model: Path) -> None:
    change(model, num_hidden_layers=100_000)
    done = call("check", "model=tiny", f"model.path={model}", "dataset.rows=8")
    assert done.code == 1
    assert "config.json says num_hidden_layers=100,000; at most 512 layers are made." in done.err


def test_the_bound_is_that_of_the_docs() -> None:
    assert config_bounds.LAYERS == 512

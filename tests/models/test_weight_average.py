"""Averages of weights: each the mean, in the first model's dtype, of models that fit each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from alignzoo import UserError
from alignzoo.models.average import hash_weights, write_average
from alignzoo.models.tiny import make_tiny
from alignzoo.models.whole import find_sharded, read_weights

LARGE, SMALL = 10**9, 10**5  #: bytes of a shard


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for seed in range(3):
        make_tiny(folder / str(seed), seed=seed)
    return {str(seed): folder / str(seed) for seed in range(3)}


@pytest.fixture
def changed(models: dict[str, Path], tmp_path: Path) -> Path:
    """Return a copy of the second model, to be changed."""
    return Path(shutil.copytree(models["1"], tmp_path / "changed"))


@pytest.mark.parametrize("size", [LARGE, SMALL])
def test_each_weight_is_the_mean(models: dict[str, Path], tmp_path: Path, size: int) -> None:
    made = tmp_path / "mean"
    made.mkdir()
    write_average(models, made, size)
    assert (len(list(made.glob("*.safetensors"))) > 1) == (size == SMALL)
    parts = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in models.values()]
    for name, weight in AutoModelForCausalLM.from_pretrained(made).state_dict().items():
        expected = (parts[0][name].double() + parts[1][name].double() + parts[2][name].double()) / 3
        assert torch.allclose(weight.double(), expected, atol=1e-7), name
        assert not torch.equal(weight, parts[0][name]) or expected.equal(parts[0][name].double())
    names = {file.name for file in made.iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "config.json", "chat_template.jinja"} <= names


def rewrite(folder: Path, dtype: torch.dtype, **weights: torch.Tensor) -> None:
    file = folder / "model.safetensors"
    found = {name: weight.to(dtype) for name, weight in load_file(file).items()}
    save_file(found | weights, file, metadata={"format": "pt"})


def test_the_mean_is_computed_in_float32(models: dict[str, Path], tmp_path: Path) -> None:
    """In bfloat16, 1 and two halves of its last digit would add up to 1."""
    halves = {}
    for name, value in {"a": 1.0, "b": 2.0**-8, "c": 2.0**-8}.items():
        halves[name] = Path(shutil.copytree(models["0"], tmp_path / name))
        key = next(iter(load_file(halves[name] / "model.safetensors")))
        shape = load_file(halves[name] / "model.safetensors")[key].shape
        rewrite(halves[name], torch.bfloat16, **{key: torch.full(shape, value, dtype=torch.bfloat16)})
    made = tmp_path / "mean"
    made.mkdir()
    write_average(halves, made, LARGE)
    found = read_weights(made)[key]
    assert found.dtype == torch.bfloat16
    assert found.eq(torch.tensor((1 + 2.0**-7) / 3).bfloat16()).all()
    assert not found.eq(torch.tensor(1 / 3).bfloat16()).any()


def test_what_differs_is_named(models: dict[str, Path], changed: Path, tmp_path: Path) -> None:
    pair = {"first": models["0"], "other": changed}

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            write_average(pair, tmp_path, LARGE)
        return str(caught.value)

    key = next(iter(load_file(changed / "model.safetensors")))
    rewrite(changed, torch.float32, **{key: torch.full_like(load_file(changed / "model.safetensors")[key], torch.nan)})
    assert refused() == f"{key} of one of the models is not finite: its training has diverged."
    rewrite(changed, torch.float32, **{key: torch.zeros(3)})
    assert refused() == f"first and other cannot be averaged: {key} differs in shape or whole numbers."
    rewrite(changed, torch.float32, more=torch.zeros(3))
    assert refused() == "first and other have other weights: more is in one of them alone."
    (changed / "tokenizer.json").write_text("{}")
    assert "first and other have another tokenizer.json" in refused()
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert refused() == "first and other are other models: rms_norm_eps of their config.json differs."


def test_shards_are_the_same_weights_and_made_once(models: dict[str, Path]) -> None:
    folder = models["0"]
    assert find_sharded(folder, LARGE) == folder
    sharded = find_sharded(folder, SMALL)
    assert all(file.stat().st_size < 3 * SMALL for file in sharded.glob("*.safetensors"))
    whole, parts = read_weights(folder), read_weights(sharded)
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    before = [file.stat().st_mtime_ns for file in sorted(sharded.iterdir())]
    assert [file.stat().st_mtime_ns for file in sorted(find_sharded(folder, SMALL).iterdir())] == before


def test_the_hash_is_that_of_the_weights(models: dict[str, Path], changed: Path) -> None:
    assert hash_weights(changed) == hash_weights(models["1"]) != hash_weights(models["0"])
    (changed / "config.json").write_text("{}")
    assert hash_weights(changed) == hash_weights(models["1"])

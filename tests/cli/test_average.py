"""``alignzoo average`` and ``alignzoo merge``: what they write, and say, of real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import QUICK
from inprocess import call, run
from transformers import AutoModelForCausalLM

from alignzoo.models.whole import read_weights

WORDS = (*QUICK, "method=sft", "train.max_steps=2", "method.learning_rate=0.001", "train.warmup_steps=0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two runs, `a` with its checkpoints and `b` with another seed, and `lora` with an adapter."""
    folder = tmp_path_factory.mktemp("runs")
    saving = ("train.save_strategy=steps", "train.save_steps=1", "train.save_total_limit=5")
    for name, more in {"a": saving, "b": ("seed=1",), "lora": ("peft=lora", "method.learning_rate=0.05")}.items():
        done = run(folder / name, *WORDS, *more)
        assert done.code == 0, done.err
    return folder


def whole(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder).state_dict())


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_the_mean_of_runs_answers_and_says_what_it_is(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    done = call("average", "a", "b", "--to", str(tmp_path / "mean"))
    assert (done.code, done.out) == (0, f"{tmp_path}/mean holds the mean of 2 models; average.json says which.\n")
    a, b = whole(runs / "a" / "model"), whole(runs / "b" / "model")
    assert close(whole(tmp_path / "mean"), {name: (a[name] + b[name]) / 2 for name in a})
    said = json.loads((tmp_path / "mean" / "average.json").read_text())
    assert said["how"] == "mean"
    assert [model["name"] for model in said["models"]] == ["a", "b"]
    assert "seed=1" in said["models"][1]["overrides"]
    assert said["models"][0]["weights_sha256"] != said["models"][1]["weights_sha256"]
    assert not (tmp_path / "mean" / "README.md").exists(), "the first run's card says nothing of the mean"
    measured = call("evaluate", str(tmp_path / "mean"), *WORDS[:-3], "method=sft", "--json")
    assert measured.code == 0, measured.err
    (numbers,) = json.loads(measured.out).values()
    assert numbers["after"] != numbers["before"]


def test_the_mean_of_checkpoints(runs: Path, tmp_path: Path) -> None:
    checkpoints = [runs / "a" / "checkpoints" / f"checkpoint-{step}" for step in (1, 2)]
    done = call("average", *map(str, checkpoints), "--to", str(tmp_path / "mean"))
    assert done.code == 0, done.err
    first, second = (whole(folder) for folder in checkpoints)
    assert close(whole(tmp_path / "mean"), {name: (first[name] + second[name]) / 2 for name in first})
    names = {file.name for file in (tmp_path / "mean").iterdir()}
    assert not names & {"trainer_state.json", "checkpoint.json", "optimizer.pt"}
    said = json.loads((tmp_path / "mean" / "average.json").read_text())
    assert {model["run"] for model in said["models"]} == {str((runs / "a").resolve())}


def test_an_adapter_is_merged(runs: Path, tmp_path: Path) -> None:
    """With its start model: the mean has half of what the adapter changes."""
    from peft import PeftModel

    start = Path(json.loads((runs / "lora" / "result.json").read_text())["start"]["folder"])
    base = AutoModelForCausalLM.from_pretrained(start)
    merged = PeftModel.from_pretrained(base, runs / "lora" / "model").merge_and_unload().state_dict()
    done = call("merge", str(runs / "lora"), "--to", str(tmp_path / "merged"), "--shard-gb", "0.0001")
    assert (done.code, done.out) == (0, f"{tmp_path}/merged holds the whole model.\n"), done.err
    assert len(list((tmp_path / "merged").glob("model-*.safetensors"))) > 1
    assert close(whole(tmp_path / "merged"), merged)
    assert not close(whole(tmp_path / "merged"), whole(start))
    done = call("average", str(runs / "lora"), str(start), "--to", str(tmp_path / "mean"))
    assert done.code == 0, done.err
    half = {name: (weight + whole(start)[name]) / 2 for name, weight in merged.items()}
    assert close(whole(tmp_path / "mean"), half)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("average", "a", "--to", "new"), "average needs two models or more, each named once."),
        (("average", "a", "a", "--to", "new"), "average needs two models or more, each named once."),
        (("average", "a", "b", "--to", "lora"), "--to lora is there already: name a folder that is not."),
        (("merge", "lora", "--to", "a"), "--to a is there already: name a folder that is not."),
        (("average", "a", "./nothing", "--to", "new"), "./nothing: no such folder."),
        (("merge", "./nothing", "--to", "new"), "./nothing: no such folder."),
    ],
)
def test_a_mistake_is_one_line(runs: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str) -> None:
    monkeypatch.chdir(runs)
    done = call(*words)
    assert done.code == 1
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert not (runs / "new").exists()


def test_what_cannot_be_averaged_leaves_nothing(runs: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir()
    for file in (runs / "b" / "model").iterdir():
        (wide / file.name).write_bytes(file.read_bytes())
    (wide / "tokenizer.json").write_text("{}")
    done = call("average", str(runs / "a"), str(wide), "--to", str(tmp_path / "mean"))
    assert done.code == 1
    assert "have another tokenizer.json" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["wide"]
    assert read_weights(wide).keys() == read_weights(runs / "a" / "model").keys()

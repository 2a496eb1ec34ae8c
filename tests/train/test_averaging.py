"""``average.rule=bema``: the run's model is the average that the paper's formula makes of its steps, also resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import QUICK
from inprocess import Outcome, run
from omegaconf import DictConfig
from safetensors.torch import load_file

from alignzoo import UserError
from alignzoo.config.check import check

STEPS = 4
WORDS = (
    *(*QUICK, "method=sft", f"train.max_steps={STEPS}", "train.warmup_steps=0", "method.learning_rate=0.001"),
    *("train.save_strategy=steps", "train.save_steps=1", "train.save_total_limit=9"),
)
BEMA = ("average.rule=bema", "average.update_freq=1", "average.lag=3")

Weights = dict[str, torch.Tensor]


def train(folder: Path, *more: str) -> Outcome:
    done = run(folder, *WORDS, *more)
    assert done.code == 0, done.err
    return done


def weights(folder: Path) -> Weights:
    (file,) = folder.glob("*model.safetensors")
    return load_file(file)


def average(start: Weights, steps: list[Weights], after: int = 0, freq: int = 1, lag: int = 3) -> Weights:
    """Return BEMA's weights (Block and Zhang, 2025, algorithm 1) of those after each step, the first of which is 1."""
    found = {}
    for name, origin in start.items():
        first = steps[after - 1][name] if after else origin
        ema, result = first, first
        for t in range(after + freq, len(steps) + 1, freq):
            theta = steps[t - 1][name]
            decay, correction = (lag + t) ** -0.5, (lag + t) ** -0.2
            ema = (1 - decay) * ema + decay * theta
            result = ema + correction * (theta - first)
        found[name] = result
    return found


def close(found: Weights, expected: Weights) -> bool:
    return all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("averaged") / "run", *BEMA).folder


def steps_of(folder: Path) -> list[Weights]:
    return [weights(folder / "checkpoints" / f"checkpoint-{step}") for step in range(1, STEPS + 1)]


def test_the_runs_model_is_the_average(averaged: Path, tmp_path: Path, start: Path) -> None:
    plain = train(tmp_path / "plain")
    assert close(weights(averaged / "checkpoints" / f"checkpoint-{STEPS}"), weights(plain.folder / "model"))
    found = weights(averaged / "model")
    assert close(found, average(weights(start), steps_of(averaged)))
    assert not close(found, weights(plain.folder / "model"))
    assert not (averaged / "checkpoints" / "bema").exists()


def test_it_begins_and_updates_when_it_was_told_to(tmp_path: Path, start: Path) -> None:
    done = train(tmp_path / "late", *BEMA[:1], "average.update_after=1", "average.update_freq=2", "average.lag=3")
    expected = average(weights(start), steps_of(done.folder), after=1, freq=2)
    assert close(weights(done.folder / "model"), expected)


def test_resumed_it_is_the_same(averaged: Path, tmp_path: Path) -> None:
    cut = Path(shutil.copytree(averaged, tmp_path / "cut"))
    for left in ("result.json", "answers.jsonl"):
        (cut / left).unlink()
    shutil.rmtree(cut / "model")
    for step in (3, 4):
        shutil.rmtree(cut / "checkpoints" / f"checkpoint-{step}")
    again = train(cut, *BEMA, "resume=auto")
    assert again.result()["cost"]["resumed"] == [2]
    found, expected = weights(cut / "model"), weights(averaged / "model")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_of_an_adapter_the_adapter_is_averaged(tmp_path: Path) -> None:
    done = train(tmp_path / "lora", *BEMA, "peft=lora", "method.learning_rate=0.01")
    steps = steps_of(done.folder)
    found = weights(done.folder / "model")
    assert found.keys() == steps[0].keys()
    zero = {name: torch.zeros_like(weight) for name, weight in found.items() if "lora_B" in name}
    assert close({name: found[name] for name in zero}, average(zero, steps)), "B begins with zeros"
    assert not close(found, steps[-1])


def test_a_training_that_ends_before_the_first_average_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "short", *WORDS, "average.rule=bema")
    assert done.code == 1
    assert "average.rule=bema averages at step 400 first, and this training ends at step 4: lower" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("strategy=fsdp",), "average.rule=bema is for one process or strategy=ddp, not for strategy=fsdp."),
        (("strategy=zero2",), "average.rule=bema is for one process or strategy=ddp, not for strategy=zero2."),
        (("+train.load_best_model_at_end=true",), "both choose the run's model: take one."),
        (("average.update_freq=0",), "average.update_freq=0 must be at least 1."),
        (("average.rule=bma",), "average.rule=bma must be one of none, bema. Did you mean bema?"),
    ],
)
def test_what_cannot_be_averaged_is_refused(
    compose_config: Callable[..., DictConfig], words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UserError) as caught:
        check(compose_config("model=tiny", "average.rule=bema", *words))
    assert said in str(caught.value)

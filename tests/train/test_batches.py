"""Batches by a budget of tokens: the same steps as batches of so many rows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from hypothesis import given
from hypothesis import strategies as draw
from inprocess import Outcome, run
from omegaconf import DictConfig
from safetensors.torch import load_file

from alignzoo import UserError
from alignzoo.config import check, placement
from alignzoo.system.signals import EXIT_CODE
from alignzoo.train.batches import bound_batches, count_tokens, divide

#: Rows of very unlike length, several batches per step and a last step with fewer rows.
UNLIKE = [*QUICK, "dataset.rows=10", "train.global_batch_size=4", "train.num_train_epochs=2", "seed=3"]

LENGTHS = draw.lists(draw.lists(draw.integers(1, 50), min_size=2, max_size=2), min_size=1, max_size=20)


@given(LENGTHS, draw.integers(1, 400), draw.booleans())
def test_every_row_is_in_one_batch_within_the_budget(rows: list[list[int]], budget: int, padded: bool) -> None:
    batches = divide(rows, budget, padded)
    assert sorted(place for batch in batches for place in batch) == list(range(len(rows)))
    for batch in batches:
        width = max(max(rows[place]) for place in batch)
        size = sum(width * 2 if padded else sum(rows[place]) for place in batch)
        assert size <= budget or len(batch) == 1
    for batch, after in pairwise(batches):
        assert min(max(rows[place]) for place in batch) >= max(max(rows[place]) for place in after)


def test_rows_of_like_length_go_together() -> None:
    assert divide([[3], [9], [4], [10]], budget=20, padded=True) == [[3, 1], [2, 0]]
    assert divide([[3], [9], [4], [10]], budget=25, padded=False) == [[3, 1, 2], [0]]


def test_tokens_of_a_row() -> None:
    pair = {"prompt_ids": [1, 2, 3], "chosen_ids": [4], "rejected_ids": [5, 6], "ref_chosen_logps": -1.0}
    assert count_tokens(pair, shared=False) == [4, 5]
    assert count_tokens(pair, shared=True) == [6]
    assert count_tokens({"input_ids": [1, 2], "labels": [-100, 2]}, shared=True) == [2]
    joined = {
        "prompt_input_ids": [1],
        "chosen_input_ids": [1, 2],
        "rejected_input_ids": [1, 2, 3],
        "chosen_labels": [2],
    }
    assert count_tokens(joined, shared=False) == [2, 3]


def trained(folder: Path, *words: str) -> Outcome:
    done = run(folder, *UNLIKE, "evaluate.enabled=false", *words)
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize(
    "words",
    [
        ["method=dpo"],
        ["method=dpo", "speed.shared_prefix=off"],
        ["method=dpo", "method.precompute_ref_log_probs=false", "peft=lora"],
        ["method=ipo"],
        ["method=sft"],
        ["method=reward", "reward=none"],
    ],
    ids=" ".join,
)
def test_the_updates_are_those_of_batches_of_one_row(words: list[str], tmp_path: Path) -> None:
    """One row at a time weighs each row the same, whatever the method."""
    # Sums of 200 nats leave margins that differ by 4e-6 at most in float32; those of whole rows, 300 nats, by 1e-5.
    words = [*words, "train.max_length=56"]
    one = trained(tmp_path / "one", *words, "train.per_device_batch_size=1")
    budget = trained(tmp_path / "budget", *words, "train.per_device_batch_tokens=400")
    pairs = list(zip(one.metrics(), budget.metrics(), strict=True))
    assert len(pairs) >= 6
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        # No accuracy of rewards: at the first step all margins are 0, and rounding decides their sign.
        for key in ("loss", "grad_norm", "rewards/margins", "mean_token_accuracy", "accuracy"):
            if key in ours and (key, words[0]) != ("mean_token_accuracy", "method=sft"):
                assert theirs[key] == pytest.approx(ours[key], rel=1e-4, abs=1e-5), key
    name = "adapter_model.safetensors" if "peft=lora" in words else "model.safetensors"
    first, second = (load_file(done.folder / "model" / name) for done in (one, budget))
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-5


def test_a_run_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["method=dpo", "train.per_device_batch_tokens=400", "train.save_strategy=steps", "train.save_steps=2"]
    whole = trained(tmp_path / "whole", *words)
    folder = tmp_path / "cut"
    with monkeypatch.context() as patch:
        stop = {"1s": 1e-3}  # a quick machine has finished after a second
        patch.setattr("alignzoo.config.check.parse_duration", lambda text, key="": stop.get(text, 600.0))
        assert run(folder, *UNLIKE, "evaluate.enabled=false", *words, "train.stop_before=1s").code == EXIT_CODE
    cut = trained(folder, *words, "resume=auto")
    first, second = (load_file(done.folder / "model" / "model.safetensors") for done in (whole, cut))
    assert all(bool((first[key] == second[key]).all()) for key in first)


@pytest.mark.parametrize(
    "words",
    [
        ["method=kto"],
        ["method=orpo"],
        ["method=grpo", "dataset=gsm8k", "reward=length"],
        ["method=dpo", "method.loss_type=[aot]"],
    ],
    ids=" ".join,
)
def test_a_loss_that_is_no_mean_of_rows_is_refused(words: list[str], compose_config: Callable[..., DictConfig]) -> None:
    cfg = compose_config(*words, "train.per_device_batch_tokens=400")
    with pytest.raises(UserError, match=r"train\.per_device_batch_tokens: .* Leave it out"):
        check.check(cfg)


def test_deepspeed_is_refused(compose_config: Callable[..., DictConfig]) -> None:
    cfg = compose_config("strategy=zero2", "strategy.processes=2", "train.per_device_batch_tokens=400")
    with pytest.raises(UserError, match="strategy=zero2 adds up gradients by itself"):
        check.check(cfg)


def test_a_process_takes_its_whole_share(compose_config: Callable[..., DictConfig]) -> None:
    words = ["train.global_batch_size=32", "train.per_device_batch_size=2", "train.per_device_batch_tokens=400"]
    assert placement.place(compose_config(*words, "strategy.processes=4")).micro_batch == 8
    with pytest.raises(UserError, match=r"train\.global_batch_size=32 must be a multiple of 5 process\(es\)"):
        placement.place(compose_config(*words, "strategy.processes=5"))


def test_a_trainer_of_another_make_is_refused(compose_config: Callable[..., DictConfig]) -> None:
    trainer: Any = object()
    bound_batches(compose_config(), trainer)
    with pytest.raises(UserError, match=r"method=dpo builds its trainer without Method\.build_trainer"):
        bound_batches(compose_config("train.per_device_batch_tokens=400"), trainer)

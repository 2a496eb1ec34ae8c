"""Dynamic sampling: groups that all earn the same give way to others, and the rest of a batch stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from alignzoo_plugins.online.trainers.dynamic import replace_groups
from conftest import QUICK
from inprocess import Outcome, run
from stopping import PLUGIN, same

from alignzoo.system.signals import EXIT_CODE

#: The reward of a prompt's completions is the same for all of them where its length is even.
REWARD = """
import alignzoo

class HalfFlat(alignzoo.Reward):
    name = "half_flat"

    def __call__(self, prompts, completions, **columns):
        texts = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in prompts]
        return [float(place % 3) if len(text) % 2 else 1.0 for place, text in enumerate(texts)]

@alignzoo.hookimpl
def alignzoo_rewards():
    return [HalfFlat]
"""

WORDS = (
    *(
        *QUICK,
        "method=dapo",
        "reward=none",
        "+reward.half_flat.weight=1.0",
        "train.max_steps=4",
        "train.warmup_steps=0",
    ),
    *("method.max_completion_length=6", "method.num_generations=4", "train.global_batch_size=8", "evaluate.shown=0"),
    *("train.per_device_batch_size=8", "method.mask_truncated_completions=false", "method.learning_rate=1e-3"),
)


@pytest.fixture
def train(fake_package: Callable[..., None], tmp_path: Path) -> Callable[..., Outcome]:
    fake_package("half_flat", REWARD)

    def start(name: str, *words: str) -> Outcome:
        done = run(tmp_path / name, *WORDS, *words)
        assert done.code == 0, done.err
        return done

    return start


def sums(done: Outcome, name: str) -> float:
    return sum(float(line.get(name, 0)) for line in done.metrics())


def test_groups_without_spread_are_replaced_and_counted(train: Callable[..., Outcome]) -> None:
    plain, dynamic = train("plain", "method.dynamic_sampling=0"), train("dynamic", "method.dynamic_sampling=8")
    assert sums(plain, "frac_reward_zero_std") > 0, "without it some groups earn all the same"
    assert not any("dynamic_sampling/replaced" in line for line in plain.metrics())
    assert sums(dynamic, "dynamic_sampling/replaced") > 0
    assert sums(dynamic, "dynamic_sampling/without_spread") == 0
    tokens = [done.metrics()[-2]["num_tokens"] for done in (plain, dynamic)]
    assert tokens[1] > tokens[0], "what was thrown away counts"


def test_tries_are_bounded(fake_package: Callable[..., None], tmp_path: Path) -> None:
    """A reward that never differs: the groups stay as they were, and the run says that it learnt nothing."""
    fake_package("half_flat", REWARD)
    words = ("reward.half_flat.weight=0.0", "method.dynamic_sampling=2", "train.max_steps=1")
    done = run(tmp_path / "run", *WORDS, *words)
    assert "1 steps moved no weight" in done.err
    assert sums(done, "dynamic_sampling/replaced") == 0
    assert sums(done, "dynamic_sampling/without_spread") == 2


def test_a_run_that_is_stopped_ends_as_one_that_was_not(
    train: Callable[..., Outcome], fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = train("whole")
    assert sums(whole, "dynamic_sampling/replaced") > 0
    fake_package("fake_stop", PLUGIN)
    monkeypatch.setenv("STOPS", "2")
    assert run(tmp_path / "stopped", *WORDS, "resume=auto").code == EXIT_CODE
    monkeypatch.delenv("STOPS")
    done = run(tmp_path / "stopped", *WORDS, "resume=auto")
    assert done.code == 0, done.err
    same(done.folder, whole.folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=dapo", "method.dynamic_sampling=-1"], "method.dynamic_sampling=-1 must be a whole number"),
        (
            ["method=grpo", "+method.dynamic_sampling=2", "+method.scale_rewards=batch"],
            "compares all groups of a batch",
        ),
        (["method=rloo", "+method.dynamic_sampling=2"], "method.dynamic_sampling: RLOOConfig has no such field"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, words: list[str], said: str) -> None:
    done = run(tmp_path / "run", *QUICK, "reward=length", *words)
    assert done.code == 1
    assert said in done.err


def test_only_the_groups_that_are_named_change() -> None:
    def made(first: int, rows: int, width: int) -> dict[str, Any]:
        ids = torch.arange(first, first + rows * width).view(rows, width)
        ones = torch.ones(rows, width, dtype=torch.long)
        tokens = {"prompt_ids": ids, "prompt_mask": ones, "completion_ids": ids, "completion_mask": ones}
        return {**tokens, "advantages": ids[:, 0].float(), "num_items_in_batch": torch.tensor(9)}

    batch, other = made(100, 6, 2), made(500, 4, 3)
    found = replace_groups(batch, other, {1: 0}, group=2, pad_id=7)
    assert found["advantages"].tolist() == [100.0, 102.0, 500.0, 503.0, 108.0, 110.0]
    assert found["prompt_ids"][0].tolist() == [7, 100, 101]
    assert found["completion_ids"][0].tolist() == [100, 101, 7]
    assert found["completion_mask"][0].tolist() == [1, 1, 0]
    assert found["completion_ids"][2].tolist() == [500, 501, 502]
    assert batch["completion_ids"].shape == (6, 2), "the batch itself stays"

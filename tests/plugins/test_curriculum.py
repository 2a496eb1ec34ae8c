"""The curriculum: prompts near a difficulty that follows the mean reward."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alignzoo_plugins.online.trainers.curriculum import TargetDifficulty, read_difficulties
from alignzoo_plugins.online.trainers.scored import ScoredTrainer
from inprocess import Outcome, run
from stopping import PLUGIN, same

from alignzoo import UserError
from alignzoo.system.signals import EXIT_CODE

#: The completions of easy prompts earn 1 in the mean, of those of difficulty 50 half, of hard ones nothing.
REWARD = """
import alignzoo

class Solved(alignzoo.Reward):
    name = "solved"

    def __call__(self, prompts, completions, difficulty, **columns):
        return [(hard < 50) + (hard == 50) / 2 + (place % 2 - 0.5) / 2 for place, hard in enumerate(difficulty)]

@alignzoo.hookimpl
def alignzoo_rewards():
    return [Solved]
"""

WORDS = (
    *("model=tiny", "dataset=local", "reward=none", "+reward.solved.weight=1.0", "evaluate.rows=4"),
    *("evaluate.max_new_tokens=4", "evaluate.shown=0", "train.max_steps=8", "train.warmup_steps=0"),
    *("method.max_completion_length=4", "method.num_generations=4", "train.global_batch_size=8"),
    *("train.per_device_batch_size=8", "method.learning_rate=1e-3"),
)

DAPO = ("method=dapo", "method.mask_truncated_completions=false")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": f"Question {place}: what is {7 * place}?", "difficulty": 10 * (place % 11)} for place in range(66)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture
def train(fake_package: Callable[..., None], tmp_path: Path, rows: Path) -> Callable[..., Outcome]:
    fake_package("solved", REWARD)

    def start(name: str, *more: str) -> Outcome:
        return run(tmp_path / name, *WORDS, f"dataset.path={rows}", *more)

    return start


def curve(done: Outcome, name: str) -> list[float]:
    return [line[f"curriculum/{name}"] for line in done.metrics() if f"curriculum/{name}" in line]


@pytest.mark.parametrize("words", [("method=grpo",), DAPO], ids=["grpo", "dapo"])
def test_the_target_rises_from_the_easiest_to_where_half_is_solved(
    train: Callable[..., Outcome], words: tuple[str, ...]
) -> None:
    done = train("run", *words, "+method.curriculum=difficulty")
    assert done.code == 0, done.err
    targets, difficulties = curve(done, "target"), curve(done, "difficulty")
    assert targets[0] == difficulties[0] == 0
    step = 50 * math.tanh(2 * 0.5)  # of a batch that earns 1, the paper's eta, alpha and beta
    assert targets[1] == pytest.approx(step)
    assert difficulties[1] == 40, "the nearest to 38.08"
    assert targets[2] == pytest.approx(2 * step)
    assert targets[3] < targets[2], "a batch that earns nothing lowers it"
    assert curve(done, "prompts") == sorted(curve(done, "prompts"))
    assert curve(done, "prompts")[-1] > 2


def test_the_goal_is_the_mean_reward_at_which_it_stays(train: Callable[..., Outcome]) -> None:
    done = train("run", "method=grpo", "+method.curriculum=difficulty", "+method.curriculum_reward=1.0")
    assert done.code == 0, done.err
    assert set(curve(done, "target")) == {0.0}
    assert curve(done, "prompts")[-1] == 6, "all that are as easy, in turn"


def test_a_run_that_is_stopped_ends_as_one_that_was_not(
    train: Callable[..., Outcome], fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*DAPO, "+method.curriculum=difficulty")
    whole = train("whole", *words)
    assert whole.code == 0, whole.err
    fake_package("fake_stop", PLUGIN)
    monkeypatch.setenv("STOPS", "3")
    assert train("stopped", *words, "resume=auto").code == EXIT_CODE
    monkeypatch.delenv("STOPS")
    done = train("stopped", *words, "resume=auto")
    assert done.code == 0, done.err
    assert curve(done, "target") == curve(whole, "target")
    same(done.folder, whole.folder)


def test_the_loss_that_is_about_to_be_trained_is_compared_without_it(train: Callable[..., Outcome]) -> None:
    done = train("run", "method=grpo", "+method.curriculum=difficulty", "train.verify=true", "train.max_steps=2")
    assert done.code == 0, done.err
    assert "agrees" in done.out
    assert curve(done, "target")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+method.curriculum=hardness"], "method.curriculum=hardness: the rows to train on have no such column"),
        (["+method.curriculum=7"], "must name the dataset's column"),
        (["+method.curriculum_reward=0.3"], "does nothing without +method.curriculum=COLUMN"),
        (["+method.curriculum=difficulty", "+method.curriculum_reward=high"], "must be a number"),
        (["+method.curriculum=difficulty", "+method.curriculum_reward=.nan"], "must be a number"),
    ],
)
def test_what_cannot_be_is_refused(train: Callable[..., Outcome], words: list[str], said: str) -> None:
    done = train("run", "method=grpo", *words)
    assert done.code == 1
    assert said in done.err


@pytest.mark.parametrize(
    ("values", "said"), [([3, 3], "all rows to train on have 3"), ([1, None], "row 2"), ([1, "hard"], "row 2")]
)
def test_a_column_that_says_nothing_is_refused(values: list[Any], said: str) -> None:
    class Rows(dict[str, list[Any]]):
        column_names = ("difficulty",)

    with pytest.raises(UserError, match=said):
        read_difficulties(Rows(difficulty=values), "difficulty")


def test_a_part_of_a_group_is_refused() -> None:
    """As several processes can hold it."""
    trainer: Any = SimpleNamespace(num_generations=4)
    assert ScoredTrainer.count_groups(trainer, 8, "method.curriculum=difficulty") == 2
    with pytest.raises(UserError, match=r"method\.curriculum=difficulty: .* whole groups, and has 6 completions"):
        ScoredTrainer.count_groups(trainer, 6, "method.curriculum=difficulty")


def test_the_nearest_are_picked_and_equals_take_turns() -> None:
    target = TargetDifficulty([0, 10, 10, 10, 20, 30], goal=0.5)
    target.value = 10
    rounds = [target.pick(1, str(turn))[0] for turn in range(3)]
    assert sorted(rounds) == [1, 2, 3]
    assert {*target.pick(3, "all")} == {1, 2, 3}
    assert target.pick(1, "others", last={1, 2, 3})[0] in {0, 4}


def test_the_target_stays_within_the_difficulties() -> None:
    target = TargetDifficulty([20, 60], goal=0.5)
    for _ in range(20):
        target.move(1.0)
    assert target.value == 60
    target.move(0.5)
    assert target.value == 60
    for _ in range(20):
        target.move(0.0)
    assert target.value == 20

"""Rewards as TRL calls them: names, weights, columns, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import run
from omegaconf import DictConfig, OmegaConf

from alignzoo.evaluate.rewards import build_rewards, wrap_reward
from alignzoo.system.errors import UserError

LITTLE = (*(word for word in QUICK if "dataset.rows" not in word), "train.warmup_steps=0")

#: Notes what it is called with; the score is the answer's share of a column of the dataset.
SEEING = """
from alignzoo import Reward, hookimpl

SEEN = []


class Seeing(Reward):
    '''A third party's reward.'''

    name = "seeing"
    columns = frozenset({"wanted"})

    def __init__(self, scale, shift=0.0):
        self.scale, self.shift = scale, shift

    def __call__(self, prompts, completions, **columns):
        SEEN.append((prompts, completions, columns))
        return [self.scale * len(a) / w + self.shift for a, w in zip(completions, columns["wanted"])]


@hookimpl
def alignzoo_rewards():
    return [Seeing]


@hookimpl
def alignzoo_config_packages():
    return ["fake_seeing.conf"]
"""

SEEING_YAML = {"reward/seeing.yaml": "seeing:\n  weight: 0.5\n  scale: 1.0\n"}


def group(**options: Any) -> DictConfig:
    return OmegaConf.create(options)


def test_names_and_weights() -> None:
    cfg = group(length={"weight": 2, "words": 5, "slack": 5}, format={"pattern": "x"})
    functions, weights, _ = build_rewards(cfg, {"prompt"}, [2])
    assert [function.__name__ for function in functions] == ["length", "format"]
    assert weights == [2.0, 1.0], "without a weight it is 1"
    five, none = ["a b c d e"], [""]
    assert functions[0](prompts=["q"], completions=five, completion_ids=[[1, 2]]) == [1.0]
    assert functions[0](prompts=["q"], completions=none, completion_ids=[[1, 2]]) == [0.0]


def test_the_configuration_is_left_as_it_is() -> None:
    cfg = group(length={"weight": 2, "words": 5, "slack": 5})
    build_rewards(cfg, {"prompt"}, [2])
    assert cfg == group(length={"weight": 2, "words": 5, "slack": 5})


def test_no_rewards() -> None:
    assert build_rewards(group(), {"prompt"}, [2]) == ([], [], [2])


def test_messages_become_the_last_turns_text() -> None:
    seen: list[Any] = []
    function = wrap_reward(spy(seen), stops=[2, 7])
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
    answer = [{"role": "assistant", "content": "Hi."}]
    function(
        prompts=[turns, "text"],
        completions=[answer, "more"],
        completion_ids=[[5, 7], [5, 3, 9]],
        wanted=["a", "b"],
        trainer_state=None,
    )
    ((prompts, answers, columns),) = seen
    assert prompts == ["Hello?", "text"]
    assert answers == ["Hi.", "more"]
    assert columns["wanted"] == ["a", "b"]
    assert columns["ended"] == [True, False], "a stop token is among them, or not"


def test_an_answer_without_a_token_has_not_ended() -> None:
    seen: list[Any] = []
    wrap_reward(spy(seen), stops=[2])(prompts=["a"], completions=[""], completion_ids=[[]])
    assert seen[0][2]["ended"] == [False]


def spy(seen: list[Any]) -> Any:
    from alignzoo import Reward

    class Spy(Reward):
        name = "spy"

        def __call__(self, prompts: list[str], answers: list[str], **columns: list[Any]) -> list[float]:
            seen.append((prompts, answers, columns))
            return [0.0] * len(answers)

    return Spy()


def test_an_answer_that_is_filled_up_behind_its_stop_has_ended() -> None:
    seen: list[Any] = []
    function = wrap_reward(noting(seen), stops=[2])
    function(["?"] * 3, ["a", "b", "c"], [[5, 2, 0, 0], [5, 6, 7, 8], [5, 2]])
    assert seen[0]["ended"] == [True, False, True]


def test_whole_prompts_have_all_turns() -> None:
    seen: list[Any] = []
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    wrap_reward(noting(seen), [])([turns], ["a"], [[]])
    wrap_reward(noting(seen), [])(["Why is"], ["a"], [[]])
    wrap_reward(noting(seen), [])([[{"role": "text", "content": "Why is"}]], ["a"], [[]])
    assert [columns["whole_prompts"] for columns in seen] == [[turns], ["Why is"], ["Why is"]]


def noting(seen: list[Any]) -> Any:
    """Return a reward that notes the columns it is called with."""

    class Noting:
        name = "noting"

        def __call__(self, prompts: list[str], answers: list[str], **columns: Any) -> list[float]:
            seen.append(columns)
            return [0.0] * len(answers)

    return Noting()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"length": {"words": 5, "slak": 5}},
            "reward.length: got an unexpected keyword argument 'slak'. Did you mean slack?",
        ),
        ({"length": {"words": 5, "beta": 5}}, "reward.length: got an unexpected keyword argument 'beta'."),
        ({"length": {"words": 5}}, "reward.length: missing 1 required positional argument: 'slack'."),
        ({"verifiable": {"strict": True}}, "reward.verifiable: Verifiable() takes no arguments."),
    ],
)
def test_a_key_that_the_reward_does_not_take_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as caught:
        build_rewards(group(**options), {"prompt", "answer"}, [2])
    assert str(caught.value) == text


def test_a_missing_column_is_named_with_the_ones_there_are() -> None:
    with pytest.raises(UserError) as caught:
        build_rewards(group(verifiable={"weight": 1}), {"prompt", "solution"}, [2])
    assert str(caught.value).startswith(
        "reward=verifiable reads the column answer, which the dataset lacks (it has: prompt, solution).\nMap it: "
    )


def test_an_unknown_reward_is_refused() -> None:
    with pytest.raises(UserError, match=r"reward=lenght: no installed plugin adds it. Did you mean length\?"):
        build_rewards(group(lenght={}), {"prompt"}, [2])


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    rows = [{"prompt": f"What is {n} and {n}?", "wanted": 100 + n, "note": f"note {n}"} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_third_partys_reward_trains(tmp_path: Path, fake_package: Callable[..., None], questions: Path) -> None:
    fake_package("fake_seeing", SEEING, SEEING_YAML)
    words = ("method=grpo", "reward=[seeing,length]", "reward.seeing.scale=3", "+reward.seeing.shift=0.25")
    data = ("dataset=local", f"dataset.path={questions}", "dataset.chat=true", "dataset.heldout.fraction=0")
    done = run(tmp_path / "run", *words, "reward.length.weight=2", *data, "method.max_completion_length=8", *LITTLE)
    assert done.code == 0, done.err

    seen = sys.modules["fake_seeing"].SEEN
    assert len(seen) == 8
    asked = set()
    for prompts, answers, columns in seen:
        assert len(prompts) == len(answers) == 4
        assert len(set(prompts)) == 1, "a group answers one prompt"
        number = int(prompts[0].split()[2])
        assert prompts[0] == f"What is {number} and {number}?"
        assert columns["wanted"] == [100 + number] * 4, "the row's own columns come with its prompt"
        assert columns["note"] == [f"note {number}"] * 4
        assert not any("<|" in answer for answer in answers), "without special tokens"
        asked.add(number)
    assert asked == set(range(8))

    lines = [line for line in done.metrics() if "reward" in line]
    assert len(lines) == 8
    for line, (_, answers, columns) in zip(lines, seen, strict=True):
        own = [3 * len(a) / w + 0.25 for a, w in zip(answers, columns["wanted"], strict=True)]
        lengths = [max(0.0, 1 - abs(len(a.split()) - 50) / 50) for a in answers]
        assert sum(columns["ended"]) / 4 == 1 - line["completions/clipped_ratio"]
        assert line["rewards/seeing/mean"] == pytest.approx(sum(own) / 4, abs=1e-5)
        assert line["rewards/length/mean"] == pytest.approx(sum(lengths) / 4, abs=1e-5)
        assert line["reward"] == pytest.approx((0.5 * sum(own) + 2 * sum(lengths)) / 4, abs=1e-5)


def test_a_dataset_without_the_rewards_column_is_refused_before_training(tmp_path: Path, questions: Path) -> None:
    data = ("dataset=local", f"dataset.path={questions}", "dataset.chat=true", "dataset.heldout.fraction=0")
    done = run(tmp_path / "run", "method=grpo", "reward=verifiable", *data, *LITTLE)
    assert done.code == 1
    assert "reward=verifiable reads the column answer, which the dataset lacks (it has: " in done.err
    assert not (tmp_path / "run").exists()


def test_the_remedy_for_a_missing_column_works(tmp_path: Path, questions: Path) -> None:
    data = ("dataset=local", f"dataset.path={questions}", "dataset.chat=true", "dataset.heldout.fraction=0")
    words = ("method=grpo", "reward=[verifiable,length]", *data, "method.max_completion_length=4", "train.max_steps=1")
    refused = run(tmp_path / "refused", *words, *LITTLE)
    remedy = refused.err.split("Map it: '")[1].split("'")[0].replace("yours", "wanted")
    done = run(tmp_path / "run", *words, remedy, *LITTLE)
    assert done.code == 0, done.err


def test_a_mapped_column_is_read(tmp_path: Path, questions: Path) -> None:
    """All the answers are wrong: the reward is there, and 0."""
    data = ("dataset=local", f"dataset.path={questions}", "dataset.chat=true", "dataset.heldout.fraction=0")
    words = ("dataset.columns={wanted: answer}", "method.max_completion_length=4", "train.max_steps=1")
    done = run(tmp_path / "run", "method=grpo", "reward=[verifiable,length]", *data, *words, *LITTLE)
    assert done.code == 0, done.err
    assert done.metrics()[0]["rewards/verifiable/mean"] == 0


def test_grpo_without_a_reward_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "method=grpo", "reward=none", *LITTLE)
    assert done.code == 1
    assert "method=grpo learns from rewards: add reward=NAME (" in done.err
    assert {"conciseness", "format", "length", "model", "verifiable"} <= set(re.findall(r"\w+", done.err))

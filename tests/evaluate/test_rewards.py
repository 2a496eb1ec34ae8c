"""Rewards as TRL calls them: names, weights, columns, and what is refused."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUICK
from inprocess import run
from omegaconf import DictConfig, OmegaConf

from alignzoo.evaluate.completions import Completion
from alignzoo.evaluate.rewards import Rewards, build_rewards, wrap_reward
from alignzoo.system.errors import UserError

#: Short samples, and beside the default reward one that differs between those of random weights.
SHORT = ("method.max_completion_length=16", "reward=[conciseness,length]", "reward.length.slack=500")

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


@pytest.mark.parametrize(("method", "mark"), [("kto", "label"), ("grpo", "label"), ("grpo", "score"), ("sft", "score")])
def test_a_reward_is_measured_on_answers_that_are_paired(tmp_path: Path, method: str, mark: str) -> None:
    """Held-out answers are put into pairs where they can be; the reward of a completion is there all the same."""
    good, bad = (True, False) if mark == "label" else (0.9, 0.1)
    answers = {"It is a number.": good, "No.": bad}
    rows = [
        {"prompt": f"What is {n}?", "completion": a, mark: value} for n in range(12) for a, value in answers.items()
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    data = ("dataset=local", f"dataset.path={tmp_path}/rows.jsonl", "dataset.chat=true", "dataset.heldout.fraction=0.4")
    words = ("model=tiny", "evaluate.rows=4", "evaluate.max_new_tokens=4", "train.max_steps=1")
    done = run(
        tmp_path / "run",
        f"method={method}",
        *data,
        *words,
        *(SHORT if method == "grpo" else ["reward=length"] if mark == "label" else []),
    )
    assert done.code == 0, done.err
    result = done.result()
    assert "preference_accuracy" in result["after"]
    chosen = method == "grpo" or mark == "label"
    assert ("reward" in result["after"]) == chosen, "foreign rows have no reward unless one is chosen"
    assert result["objective"] == ("reward" if chosen else "margin_token")


def test_a_row_may_lack_a_further_column() -> None:
    """The first one too: its value is then None."""
    from datasets import Dataset

    seen: list[Any] = []
    rows = Dataset.from_list(
        [{"prompt": json.dumps("?"), "extra": text, "template_inputs": None} for text in ("{}", '{"wanted": 3}')]
    )
    measured = [Completion("a", 1, True)] * 2
    Rewards([wrap_reward(noting(seen), [2])], [1.0], [2]).score(rows, measured)
    assert seen[0]["wanted"] == [None, 3]


def test_rewards_get_the_tools_that_the_chat_template_got() -> None:
    """A reward model reads them too; where no row has tools, there is no such column."""
    from datasets import Dataset

    seen: list[Any] = []
    reward = Rewards([wrap_reward(noting(seen), [2])], [1.0], [2])
    given = (json.dumps({"tools": [{"name": "f"}]}), None)
    for inputs in (given, (None, None)):
        rows = [{"prompt": json.dumps("?"), "extra": "{}", "template_inputs": text} for text in inputs]
        reward.score(Dataset.from_list(rows), [Completion("a", 1, True)] * 2)
    assert seen[0]["tools"] == [[{"name": "f"}], None]
    assert "tools" not in seen[1]


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


def returning(answer: Any) -> Any:
    from alignzoo import Reward

    class Odd(Reward):
        name = "odd"

        def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> Any:
            return answer() if callable(answer) else answer

    return wrap_reward(Odd(), [2])


async def give(scores: Any) -> Any:
    await asyncio.sleep(0)
    return scores


async def give_one_by_one() -> Any:
    yield 1.0


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "returned None: it must return a list of 2 scores."),
        ("ab", "returned the text 'ab': it must return a list of 2 scores."),
        (b"ab", "returned the bytes b'ab': it must"),
        (0.5, "returned the float 0.5: it must"),
        ({"a": 1, "b": 2}, "returned the mapping {'a': 1, 'b': 2}: it must"),
        (lambda: np.array(1.0), "returned the ndarray array(1.): it must"),
        (give_one_by_one, "returned the async_generator: it must"),
        (lambda: give(None), "returned None: it must"),
        ([1.0], "returned 1 scores for 2 completions."),
        ([1.0, None], "returned None for the completion 'b'; it must be a finite number."),
        (["0.5", 1.0], "returned '0.5' for the completion 'a'; it must"),
        ([[1.0, 2.0], 1.0], "returned [1.0, 2.0] for the completion 'a'; it must"),
        ([float("nan"), 1.0], "returned nan for the completion 'a'; it must"),
        ([10**400, 1.0], "for the completion 'a'; it must"),
        (lambda: give([1.0, None]), "returned None for the completion 'b'; it must"),
    ],
)
def test_what_is_not_a_score_each_is_refused_with_its_name(answer: Any, said: str) -> None:
    function = returning(answer)
    with warnings.catch_warnings(action="error"), pytest.raises(UserError) as refused:  # such as "was never awaited"
        function(["?"] * 2, ["a", "b"], [[], []])
    assert str(refused.value).startswith("reward=odd returned ")
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "answer",
    [(1, True), lambda: np.array([1.0, 1.0]), lambda: iter([1, 1.0]), lambda: give([1, 1]), lambda: torch.ones(2)],
)
def test_scores_of_any_kind_are_numbers(answer: Any) -> None:
    scores = returning(answer)(["?"] * 2, ["a", "b"], [[], []])
    assert scores == [1.0, 1.0]
    assert [type(score) for score in scores] == [float, float]


#: Two rewards that wait for one another, and note the loops in which they are asked.
WAITING = """
import asyncio

from alignzoo import Reward, hookimpl

LOOPS, TURNS = [], {}


class Waiting(Reward):
    '''Waits for a service.'''

    def __init__(self):
        self.asked = 0

    async def __call__(self, prompts, completions, **columns):
        LOOPS.append(asyncio.get_running_loop())
        if "trainer_state" in columns:  # the other reward is asked at the same time
            turn = TURNS.setdefault(self.asked, asyncio.Barrier(2))
            self.asked += 1
            await asyncio.wait_for(turn.wait(), 20)
        return [self.score * len(text) for text in completions]


class One(Waiting):
    name, score = "one", 0.01


class Two(Waiting):
    name, score = "two", 0.02


@hookimpl
def alignzoo_rewards():
    return [One, Two]


@hookimpl
def alignzoo_config_packages():
    return ["fake_waiting.conf"]
"""
WAITING_YAML = {f"reward/{name}.yaml": f"{name}:\n  weight: 1.0\n" for name in ("one", "two")}


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_asynchronous_rewards_train_and_measure_in_one_loop_at_the_same_time(
    tmp_path: Path, fake_package: Callable[..., None], method: str
) -> None:
    fake_package("fake_waiting", WAITING, WAITING_YAML)
    words = (f"method={method}", "reward=[one,two]", "method.max_completion_length=8", "train.max_steps=2")
    done = run(tmp_path / "run", *QUICK, *words)
    assert done.code == 0, done.err
    module = sys.modules["fake_waiting"]
    assert len(module.TURNS) >= 2
    assert len(set(module.LOOPS)) == 1
    first = next(line for line in done.metrics() if "reward" in line)
    assert first["rewards/two/mean"] == pytest.approx(2 * first["rewards/one/mean"], rel=1e-4)
    assert first["rewards/one/mean"] > 0
    assert done.result()["after"]["reward"] > 0, "measured too"


def test_an_asynchronous_reward_is_waited_for_by_a_trainer_that_knows_none() -> None:
    from trl import GRPOTrainer

    from alignzoo.train.trainer import _choose_calls

    class Slow:
        name = "slow"

        async def __call__(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
            return [1.0] * len(completions)

    slow: Any = wrap_reward(Slow(), [])  # type: ignore[arg-type]
    plain = returning([1.0])
    assert _choose_calls([slow, plain], object) == [slow, plain]
    assert slow(["?"], ["a"], [[]]) == [1.0]
    chosen, same = _choose_calls([slow, plain], GRPOTrainer)
    assert (same, chosen.__name__, inspect.iscoroutinefunction(chosen)) == (plain, "slow", True)
    assert chosen.reward is slow.reward, "whose state a checkpoint holds"


def test_a_reward_that_returns_nothing_ends_the_run_in_a_line(
    tmp_path: Path, fake_package: Callable[..., None], questions: Path
) -> None:
    code = SEEING.replace("return [self.scale", "return None; [self.scale")
    fake_package("fake_seeing", code, SEEING_YAML)
    data = ("dataset=local", f"dataset.path={questions}", "dataset.chat=true", "dataset.heldout.fraction=0")
    done = run(tmp_path / "run", "method=grpo", "reward=seeing", *data, "method.max_completion_length=8", *LITTLE)
    assert done.code == 1
    assert done.err.splitlines()[-1] == "alignzoo: reward=seeing returned None: it must return a list of 4 scores."
    assert "Traceback" not in done.err


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

"""``alignzoo evaluate --pairs``: how often a policy, or a reward model, prefers a file's chosen completions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import Outcome, call, run

from alignzoo.evaluate.intervals import wilson

SUBSETS = ("mt-bench-easy", "math-prm", "hep-go")


def write_pairs(file: Path, count: int = 30, **more: Any) -> Path:
    """Write pairs of plain text in RewardBench's columns, the chosen completion the shorter one."""
    rows = [
        {
            "id": place,
            "prompt": f"What is a lighthouse, in {place} words?",
            "chosen": f"A tower with a light, number {place}.",
            "rejected": f"A lighthouse is a thing, and it is a thing that is a thing, and so on, and so on, {place}.",
            "subset": SUBSETS[place % 3],
            **more,
        }
        for place in range(count)
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    """Trained by KTO, whose rows are not pairs: the run's data say nothing of the file's."""
    done = run(tmp_path_factory.mktemp("policy") / "run", "method=kto", *QUICK, "method.learning_rate=0.001")
    assert done.code == 0, done.err
    return done


def measure(*words: str) -> Any:
    done = call("evaluate", "--json", *words)
    assert done.code == 0, done.err
    return json.loads(done.out)[words[0]]["pairs"]


def test_a_policy_is_asked_by_its_implicit_reward_and_by_likelihood(policy: Outcome, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.jsonl")
    found = measure(str(policy.folder), "--pairs", str(file))
    assert found["pairs"] == 30
    assert {name: one["pairs"] for name, one in found["subsets"].items()} == dict.fromkeys(SUBSETS, 10)
    assert found["all"].keys() == {"preference_accuracy", "accuracy_sum", "accuracy_mean"}
    for key, (value, low, high) in found["all"].items():
        subsets = [one[key][0] for one in found["subsets"].values()]
        assert value == pytest.approx(sum(subsets) / 3)
        assert (low, high) == pytest.approx(wilson(30 * value, 30))
    assert found["sections"].keys() == {"Chat", "Reasoning"}
    assert found["left_out"] == {}


def test_it_is_the_accuracy_that_a_run_measures_on_such_rows(policy: Outcome, tmp_path: Path) -> None:
    """The same pairs, as the held-out rows of a run."""
    file = write_pairs(tmp_path / "pairs.jsonl")
    found = measure(str(policy.folder), "--pairs", str(file))["all"]
    copy = shutil.copytree(policy.folder / "model", tmp_path / "copy")
    train = write_pairs(tmp_path / "train.jsonl", 4, prompt="Where?")
    words = ("model=tiny", "dataset=local", f"dataset.path={train}", f"dataset.heldout.path={file}")
    more = ("dataset.chat=true", "evaluate.rows=30", "evaluate.max_new_tokens=1")
    done = call("evaluate", "--json", str(copy), *words, *more)
    assert done.code == 0, done.err
    after = json.loads(done.out)[str(copy)]["after"]
    assert {key: after[key] for key in found} == {key: pytest.approx(one[0]) for key, one in found.items()}


def test_a_start_model_prefers_nothing_by_its_implicit_reward(start: Path, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.jsonl", 6)
    assert measure(str(start), "--pairs", str(file), "model=tiny")["all"]["preference_accuracy"][0] == 0.5


def test_a_reward_model_is_asked_by_its_scores(tmp_path: Path, cache: Path) -> None:
    """Trained on pairs whose chosen completion is mostly the shorter one, as these all are."""
    words = ("model=tiny", "dataset.rows=96", "method.learning_rate=3e-3", "train.num_train_epochs=2")
    done = run(tmp_path / "run", "method=reward", *words)
    assert done.code == 0, done.err
    file = write_pairs(tmp_path / "pairs.jsonl")
    found = measure(str(done.folder), "--pairs", str(file))
    assert found["all"].keys() == {"reward_accuracy"}
    assert found["all"]["reward_accuracy"][0] > 0.75
    assert found["score"]["reward_accuracy"][0] > 0.75


def test_the_table_and_what_was_left_out(policy: Outcome, tmp_path: Path) -> None:
    file = write_pairs(tmp_path / "pairs.jsonl")
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"prompt": "Why?", "chosen": "word " * 2000, "rejected": "No.", "subset": "hep-go"}))
    done = call("evaluate", str(policy.folder), "--pairs", str(file))
    assert done.code == 0, done.err
    for text in ("section Reasoning", "mean of sections", "mean of subsets", "all pairs", "math-prm"):
        assert text in done.out
    assert "left out 1: longer than train.max_length=" in done.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--pairs", "{file}", "--save"), "--pairs measures nothing else, and saves nothing: leave out --save."),
        (("--pairs", "{file}", "--tasks", "ifeval"), "leave out --tasks."),
        (("--pairs", "{here}/nothing.jsonl"), "--pairs={here}/nothing.jsonl: no such file."),
        (("--pairs", "{here}/prompts.jsonl"), "it holds prompts rows, and no chosen and rejected completions."),
    ],
)
def test_mistakes(policy: Outcome, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    places = {"file": write_pairs(tmp_path / "pairs.jsonl"), "here": tmp_path}
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why is it so?"}\n{"prompt": "What is it?"}\n')
    done = call("evaluate", str(policy.folder), *(word.format(**places) for word in words))
    assert done.code == 1
    assert told.format(**places) in done.err

"""What a run writes for who follows it: how far it is, and its answers on the way, without a change in the training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inprocess import Outcome, run
from stopping import metrics, weights

from alignzoo.runs import progress
from alignzoo.runs.progress import MEASURING, TRAINING, read_answers, read_progress
from alignzoo.system.errors import UserError
from alignzoo.train import following
from alignzoo.train.following import WriteProgress
from alignzoo.train.processes import refuse_sharded_weights

WORDS = (
    *("model=tiny", "dataset.rows=16", "evaluate.rows=7", "evaluate.max_new_tokens=6", "evaluate.shown=0"),
    *("method.learning_rate=0.001", "train.warmup_steps=0", "train.max_steps=4", "reward=length"),
)


@pytest.fixture(scope="module", params=["dpo", "grpo"])
def twice(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Outcome]:
    """One run with answers on the way, and the same without."""
    folder = tmp_path_factory.mktemp("followed")
    words = (*WORDS, f"method={request.param}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "EVERY", 0.0)
        followed = run(folder / "followed", *words, "evaluate.on_the_way=3")
    plain = run(folder / "plain", *words)
    assert (followed.code, plain.code) == (0, 0), followed.err + plain.err
    return followed, plain


def read_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_answering_on_the_way_changes_nothing_in_the_training(twice: tuple[Outcome, Outcome]) -> None:
    followed, plain = twice
    assert metrics(followed.folder) == metrics(plain.folder)
    assert weights(followed.folder) == weights(plain.folder)
    assert read_lines(followed.folder) == read_lines(plain.folder)


def test_answers_are_written_after_each_share_of_the_steps(twice: tuple[Outcome, Outcome]) -> None:
    followed, plain = twice
    found = read_answers(followed.folder)
    assert [line["step"] for line in found] == [0, 1, 2, 3]
    assert [line["step"] for line in read_answers(plain.folder)] == [0]
    lines = read_lines(followed.folder)[:5]
    for line in found:
        assert [one["prompt"] for one in line["answers"]] == [one["prompt"] for one in lines]
    assert [one["text"] for one in found[0]["answers"]] == [one["before"]["text"] for one in lines]
    assert found[3]["answers"] != found[0]["answers"], "it learns"


def test_the_answers_are_those_of_the_model_at_that_step(tmp_path: Path) -> None:
    """A run that ends at that step answers the same: its rate is constant."""
    words = (*WORDS, "train.lr_scheduler_type=constant")
    done = run(tmp_path / "long", *words, "evaluate.on_the_way=1")
    short = run(tmp_path / "short", *words, "train.max_steps=2")
    assert (done.code, short.code) == (0, 0), done.err + short.err
    _, half = read_answers(done.folder)
    assert half["step"] == 2
    assert [one["text"] for one in half["answers"]] == [one["after"]["text"] for one in read_lines(short.folder)[:5]]


def test_a_run_ends_with_its_progress(twice: tuple[Outcome, Outcome]) -> None:
    now = read_progress(twice[0].folder)
    assert now is not None
    assert (now.phase, now.step, now.steps, now.first_step) == (MEASURING, 4, 4, 0)
    assert 0 < now.seconds < twice[0].result()["cost"]["total_seconds"]
    assert now.peak_bytes > 100_000_000
    assert now.free_bytes > 0


def test_a_reward_model_answers_nothing_and_a_run_without_measuring_neither(tmp_path: Path) -> None:
    for name, word in {"reward": "method=reward", "off": "evaluate.enabled=false"}.items():
        done = run(tmp_path / name, *WORDS[:-1], word, "evaluate.on_the_way=2")
        assert done.code == 0, done.err
        assert not (done.folder / progress.ANSWERS).exists()
        assert read_progress(done.folder) is not None


def test_progress_is_written_every_few_seconds_by_the_main_process_alone(tmp_path: Path) -> None:
    callback, state = WriteProgress(tmp_path, "cpu"), SimpleNamespace(global_step=3, max_steps=9)
    state.is_world_process_zero = False
    callback.on_train_begin(None, state, None)
    assert read_progress(tmp_path) is None
    state.is_world_process_zero = True
    callback.on_train_begin(None, state, None)
    state.global_step = 4
    callback.on_step_end(None, state, None)
    assert read_progress(tmp_path).step == 3, "it was written just now"  # type: ignore[union-attr]
    callback.written -= following.EVERY
    callback.on_step_end(None, state, None)
    now = read_progress(tmp_path)
    assert now is not None
    assert (now.phase, now.step, now.first_step) == (TRAINING, 4, 3)
    assert [file.name for file in tmp_path.iterdir()] == [progress.FILE]


def test_a_folder_that_takes_nothing_does_not_end_the_training(tmp_path: Path) -> None:
    state = SimpleNamespace(global_step=3, max_steps=9, is_world_process_zero=True)
    WriteProgress(tmp_path / "gone", "cpu").on_train_begin(None, state, None)
    assert not (tmp_path / "gone").exists()


def test_writing_costs_next_to_nothing(tmp_path: Path) -> None:
    """A write is bounded far below a step's time, and there is one in two seconds."""
    callback = WriteProgress(tmp_path, "cpu")
    state = SimpleNamespace(global_step=3, max_steps=9, is_world_process_zero=True)
    callback.on_train_begin(None, state, None)
    began = time.process_time()
    for _ in range(50):
        callback.written = 0.0
        callback.on_step_end(None, state, None)
    assert (time.process_time() - began) / 50 < 0.02


def test_a_strategy_that_shards_the_weights_is_refused(compose_config: Callable[..., Any]) -> None:
    refuse_sharded_weights(compose_config("strategy=ddp"), "evaluate.on_the_way=3")
    with pytest.raises(UserError, match=r"evaluate\.on_the_way=3: strategy=fsdp holds a share of each weight"):
        refuse_sharded_weights(compose_config("strategy=fsdp"), "evaluate.on_the_way=3")


@pytest.mark.parametrize("word", ["evaluate.on_the_way=-1", "evaluate.on_the_way=x"])
def test_a_wrong_number_of_times_is_refused(tmp_path: Path, word: str) -> None:
    done = run(tmp_path / "run", *WORDS, word)
    assert done.code == 1
    assert "evaluate.on_the_way" in done.err
    assert not (tmp_path / "run").exists()

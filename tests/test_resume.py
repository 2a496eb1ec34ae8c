"""A run that was stopped and went on is the run that was never stopped; and what is refused or skipped on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import Outcome, run
from stopping import PLUGIN, result, same

from alignzoo.notice import EXIT_CODE

#: Three updates an epoch (of pairs), in two batches each, and two epochs; changes that can be seen in the weights.
WORDS = (
    *(word for word in QUICK if "dataset.rows" not in word),
    "train.per_device_batch_size=2",
    "train.num_train_epochs=2",
    "train.warmup_steps=0",
    "method.learning_rate=0.001",
    "reward=length",
    "reward.length.slack=200",
    "evaluate.shown=0",
)

GRPO = ("method=grpo", "dataset.rows=3", "method.max_completion_length=6")

#: For each case, its words and the updates after which it is stopped: in an epoch, at its end, in the next one.
CASES: dict[str, tuple[tuple[str, ...], str]] = {
    "sft": (("method=sft", "dataset.rows=12"), "2,3,5"),
    "dpo": (("method=dpo", "dataset.rows=12"), "2,3,5"),
    "ipo": (("method=ipo", "dataset.rows=12"), "1,4"),
    "orpo": (("method=orpo", "dataset.rows=12"), "2,5"),
    "kto": (("method=kto", "dataset.rows=6", "train.per_device_batch_size=4"), "2,3,5"),
    "grpo": (GRPO, "2,3,5"),
    "grpo in the middle of a block": ((*GRPO, "+method.num_iterations=2", "+method.steps_per_generation=4"), "1,3,6"),
    "grpo without accumulation": ((*GRPO, "train.per_device_batch_size=4", "+method.num_iterations=3"), "2,4,11"),
    "an adapter with dropout": (("method=dpo", "dataset.rows=12", "peft=lora", "peft.lora_dropout=0.3"), "2,4"),
    "lines of several updates": (("method=orpo", "dataset.rows=12", "train.logging_steps=4"), "2,5"),
    "a reference that moves": (
        ("method=dpo", "dataset.rows=12", "+method.sync_ref_model=true", "+method.ref_model_sync_steps=2"),
        "3,5",
    ),
    "after the last update": (("method=dpo", "dataset.rows=12", "train.max_steps=4"), "4"),
}


@pytest.fixture
def stopped(
    fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Outcome]:
    """Run the words, stopped after each of the updates that are named, until the last start or the end."""
    fake_package("fake_stop", PLUGIN)

    def start(folder: Path, *words: str, stops: str = "", times: int = 1) -> Outcome:
        monkeypatch.setenv("STOPS", stops)
        for number in range(times):
            done = run(folder, *WORDS, *words, "resume=auto")
            assert done.code == EXIT_CODE, f"start {number}: {done.out[-2000:]} {done.err}"
            assert "To go on:" in done.err
            assert not (folder / "result.json").exists()
            assert not (folder / ".lock").exists()
        monkeypatch.delenv("STOPS")
        return run(folder, *WORDS, *words, "resume=auto")

    return start


@pytest.mark.parametrize(("words", "stops"), CASES.values(), ids=list(CASES))
def test_a_stopped_run_ends_as_one_that_never_was(
    words: tuple[str, ...], stops: str, stopped: Callable[..., Outcome], tmp_path: Path
) -> None:
    whole = run(tmp_path / "whole", *WORDS, *words)
    assert whole.code == 0, whole.err
    steps = [int(stop) for stop in stops.split(",")]
    ended = stopped(tmp_path / "stopped", *words, stops=stops, times=len(steps))
    assert ended.code == 0, ended.err
    same(ended.folder, whole.folder)
    assert result(ended.folder)["cost"]["resumed"] == steps
    assert result(whole.folder)["cost"]["resumed"] == []
    assert result(ended.folder)["cost"]["steps"] == result(whole.folder)["cost"]["steps"]
    assert [folder.name for folder in ended.folder.glob("checkpoints/*-*")] == [f"checkpoint-{steps[-1]}"]

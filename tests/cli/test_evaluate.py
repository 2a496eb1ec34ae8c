"""``alignzoo evaluate``: any model against its start model, by the same yardstick as a training."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import Outcome, call, run

from alignzoo import UserError
from alignzoo.cli import run_command
from alignzoo.config.metrics import NUMBERS

WORDS = (*QUICK, "method.learning_rate=0.001", "train.warmup_steps=0")

Evaluate = Callable[..., Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    words = (
        "+train.save_only_model=true",
        "train.save_strategy=steps",
        "train.save_steps=2",
        "train.save_total_limit=2",
    )
    return run(tmp_path_factory.mktemp("trained") / "run", "method=dpo", *WORDS, *words)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    return run(tmp_path_factory.mktemp("adapted") / "run", "method=dpo", "peft=lora", *WORDS)


@pytest.fixture
def numbers(capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Run ``evaluate --json``, and return what it prints for its first target."""

    def call(*words: object) -> Any:
        capsys.readouterr()
        assert run_command(["evaluate", "--json", *map(str, words)]) == 0
        return next(iter(json.loads(capsys.readouterr().out).values()))

    return call


@pytest.mark.parametrize("which", ["trained", "adapted"])
def test_a_run_has_the_numbers_that_its_training_measured(
    request: pytest.FixtureRequest, numbers: Evaluate, which: str
) -> None:
    done: Outcome = request.getfixturevalue(which)
    found, result = numbers(done.folder), done.result()
    for part in ("before", "after", "intervals", "data"):
        assert found[part].keys() == result[part].keys()
        for key, value in result[part].items():
            assert found[part][key] == pytest.approx(value, abs=1e-4), (part, key)


def test_other_settings_take_the_place_of_the_runs_own(trained: Outcome, numbers: Evaluate) -> None:
    found = numbers(trained.folder, "evaluate.rows=8", "evaluate.max_new_tokens=3")
    assert found["after"]["answer_tokens"] <= 3
    low, high = found["intervals"]["ended"]
    assert high - low < trained.result()["intervals"]["ended"][1] - trained.result()["intervals"]["ended"][0]


def test_a_checkpoint_lies_between_start_and_end(trained: Outcome, numbers: Evaluate) -> None:
    early, late = (numbers(trained.folder / "checkpoints" / f"checkpoint-{n}")["after"]["kl"] for n in (2, 4))
    assert 0 < early < late
    assert late == pytest.approx(trained.result()["after"]["kl"], abs=1e-4)


def test_a_models_folder_is_measured_by_the_configuration_that_is_given(
    trained: Outcome, numbers: Evaluate, tmp_path: Path
) -> None:
    shutil.copytree(trained.folder / "model", tmp_path / "mine")
    found = numbers(tmp_path / "mine", *WORDS)
    assert found["after"]["margin"] == pytest.approx(trained.result()["after"]["margin"], abs=1e-4)
    start = numbers(trained.result()["start"]["folder"], *WORDS)
    assert (start["after"]["margin"], start["after"]["kl"]) == pytest.approx((0, 0), abs=1e-5)


def test_numbers_can_be_saved_into_the_run(
    trained: Outcome, numbers: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    old = json.loads((folder / "result.json").read_text())
    found = numbers("run", "evaluate.rows=7", "--save")
    new = json.loads((folder / "result.json").read_text())
    assert new["after"] == found["after"] != old["after"]
    assert new["cost"] == old["cost"]
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 7


def test_a_run_that_was_trained_on_the_held_out_rows_is_flagged(
    tmp_path: Path, numbers: Evaluate, caplog: pytest.LogCaptureFixture
) -> None:
    """Trained on all pairs of a file, and then measured on a share of them."""
    pairs = [{"prompt": f"What is {n}?", "chosen": f"It is {n}.", "rejected": "No."} for n in range(40)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    words = ("model=tiny", "dataset=local", f"dataset.path={file}", "dataset.chat=true", "evaluate.max_new_tokens=4")
    share = "dataset.heldout.fraction"
    done = run(tmp_path / "run", *words, f"{share}=0", "train.max_steps=1", "train.warmup_steps=0")
    assert done.code == 0, done.err
    numbers(done.folder)
    assert "was trained on" not in caplog.text
    found = numbers(done.folder, f"{share}=0.3")
    assert "of these held-out rows: its numbers do not measure it." in caplog.text
    assert found["after"]["margin"] > 0


def test_the_table_and_the_explanations(trained: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["evaluate", str(trained.folder)]) == 0
    out = capsys.readouterr().out
    assert "held-out rows" in out
    assert f"{trained.folder}, against its start model" in out
    assert run_command(["evaluate", "--explain"]) == 0
    out = capsys.readouterr().out
    assert all(number.meaning in out for number in NUMBERS.values())


def test_the_ways_that_a_refused_model_names_work(trained: Outcome, start: Path, tmp_path: Path) -> None:
    """A run's model against another one, and as a folder of its own."""
    copy = shutil.copytree(trained.folder / "model", tmp_path / "copy")
    against = call("evaluate", str(trained.folder / "model"), f"evaluate.against={start}")
    assert against.code == 0, against.err
    alone = call("evaluate", str(copy), "model=tiny", "dataset.rows=16", "evaluate.rows=2", "evaluate.max_new_tokens=4")
    assert alone.code == 0, alone.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "evaluate needs a run folder, a model folder or a hub id."),
        (("./nowhere",), "./nowhere: no such folder."),
        (("{empty}",), "holds no trained model: name a run that has finished, or a model's folder."),
        (("{run}", "method=ipo"), "method=ipo: a run keeps its own method; override values of it.\nA copy of its"),
        (("{run}/model", "model=tiny"), "to compare with another than its start model, evaluate.against=FOLDER_OR_HUB"),
        (("{run}", "dataset=hh"), "dataset=hh: a run keeps its own dataset; override values, as in dataset.path=FILE"),
        (("{run}", "evaluate.rowz=4"), "evaluate.rowz=4: "),
        (("{run}/model/../checkpoints/checkpoint-2", "--save"), "is not a run folder; its numbers have no place."),
    ],
)
def test_mistakes(trained: Outcome, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as raised:
        run_command(["evaluate", *(word.format(run=trained.folder, empty=tmp_path) for word in words)])
    assert message in str(raised.value)

"""Benchmark tasks through the real lm-evaluation-harness: local YAML files and items, a model of random weights."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import QUICK
from inprocess import Outcome, call, run

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is missing: pip install 'alignzoo[tasks]'")

from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.evaluate.harness import load_tasks
from alignzoo.evaluate.task_yardstick import TaskYardstick
from alignzoo.models.load import load_policy, load_tokenizer
from alignzoo.system.errors import UserError
from alignzoo.train.inputs import prepare_run

WORDS = (*QUICK, "method.learning_rate=0.003", "train.warmup_steps=0", "evaluate.shown=0")

CHOICE: dict[str, Any] = {
    "task": "local_choice",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
WRITE = {
    **{key: CHOICE[key] for key in ("dataset_path", "dataset_kwargs", "test_split", "doc_to_text")},
    "task": "local_write",
    "output_type": "generate_until",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match"}],
}


def write_task(folder: Path, task: dict[str, Any], name: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name or task['task']}.yaml"
    file.write_text(yaml.safe_dump(task), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tasks on the same twelve items."""
    there = tmp_path_factory.mktemp("tasks") / "mine"
    write_task(there, CHOICE)
    write_task(there, WRITE)
    items = [{"question": f"What is {n}?", "choices": [f" {n}", " a cat"], "answer": n % 2} for n in range(12)]
    (there / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in items), encoding="utf-8")
    return there


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path, folder: Path) -> Outcome:
    done = run(tmp_path_factory.mktemp("trained") / "run", *WORDS, f"evaluate.tasks=[{folder}]")
    assert done.code == 0, done.err
    return done


def items(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "tasks.jsonl").read_text(encoding="utf-8").splitlines()]


def measure(start: Path, words: Sequence[Path | str], **settings: Any) -> tuple[TaskYardstick, Any]:
    """Return the yardstick of these tasks, and the model of random weights."""
    cfg = compose(["model=tiny", *(f"evaluate.{key}={value}" for key, value in settings.items())])
    tokenizer = load_tokenizer(start, cfg.model)
    return TaskYardstick(cfg.evaluate, load_tasks([*map(str, words)]), tokenizer), load_policy(start, cfg, "fp32")


def test_a_run_keeps_the_score_of_every_item_on_both_sides(trained: Outcome) -> None:
    found = items(trained.folder)
    assert [(one["task"], one["item"]) for one in found] == [
        (task, place) for task in ("local_choice", "local_write") for place in range(12)
    ]
    for one in found:
        metrics = {"acc", "acc_norm"} if one["task"] == "local_choice" else {"exact_match"}
        assert one["before"]["scores"].keys() == one["after"]["scores"].keys() == metrics
        assert (one["after"]["answer"] is None) is (one["task"] == "local_choice")
    assert any(one["before"]["answer"] != one["after"]["answer"] for one in found), "the trained model was asked"


def test_its_numbers_are_those_of_the_items(trained: Outcome) -> None:
    found = trained.result()["tasks"]
    assert [*found] == ["local_choice: acc", "local_choice: acc_norm", "local_write: exact_match"]
    for side in ("before", "after"):
        values = [one[side]["scores"]["acc"] for one in items(trained.folder) if one["task"] == "local_choice"]
        assert found["local_choice: acc"][side] == pytest.approx(sum(values) / 12)
    assert "alignment tax" not in trained.out, "that is a leaderboard's"
    assert "local_choice: acc" in trained.out
    assert "| local_choice: acc |" in (trained.folder / "model" / "README.md").read_text()


def test_the_harness_is_quiet(trained: Outcome) -> None:
    log = (trained.folder / "alignzoo.log").read_text()
    assert "lm_eval" not in log, log
    assert "Running" not in trained.err


def test_a_run_is_measured_again_as_its_training_did(
    trained: Outcome, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = call("evaluate", str(trained.folder))
    assert refused.code == 1
    assert "names files of tasks, which can run Python code" in refused.err
    again = call("evaluate", "--json", str(trained.folder), "--tasks", str(folder))
    assert again.code == 0, again.err
    assert json.loads(again.out)[str(trained.folder)]["tasks"] == trained.result()["tasks"]


def test_a_study_measures_benchmarks_in_its_test_alone(folder: Path) -> None:
    for phase, measured in (("tune", False), ("test", True)):
        study = ("+study.protocol=p", f"+study.phase={phase}", "+study.trial=1")
        cfg = compose([*WORDS, "dataset.validation.fraction=0.1", f"evaluate.tasks=[{folder}]", *study])
        assert ("tasks" in prepare_run(check(cfg)).make_yardsticks()) is measured


def test_any_model_is_measured_by_one_file_from_another_folder(
    start: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The items' path in the YAML file is relative to that file."""
    monkeypatch.chdir(folder.parent)
    words = ("model=tiny", "dataset.rows=16", "evaluate.rows=0", "evaluate.task_items=5")
    done = call("evaluate", "--json", str(start), "--tasks", f"{folder.name}/local_choice.yaml", *words)
    assert done.code == 0, done.err
    found = json.loads(done.out)[str(start)]["tasks"]
    assert found["local_choice: acc"]["items"] == 5
    assert found["local_choice: acc"]["change"][0] == 0, "it is its own start model"


def test_a_model_that_writes_is_asked_through_its_chat_template(start: Path, folder: Path) -> None:
    """One that ranks is not, and without a template nothing is put around the question."""
    yardstick, model = measure(start, [folder], task_items=2)
    asked: list[str] = []
    render = yardstick.tokenizer.apply_chat_template
    yardstick.tokenizer.apply_chat_template = lambda turns, **more: (
        asked.append(turns[-1]["content"]) or render(turns, **more)
    )
    with_template = yardstick.measure(model, None)
    assert sorted(asked) == ["What is 0?", "What is 1?"], "the other task's items are the same"
    yardstick.tokenizer.chat_template = None
    asked.clear()
    without = yardstick.measure(model, None)
    assert not asked
    ranked, written = ([one for one in with_template if one.part == part] for part in ("local_choice", "local_write"))
    assert ranked == [one for one in without if one.part == "local_choice"]
    assert written != [one for one in without if one.part == "local_write"]


def test_processes_that_share_the_items_score_each_once(start: Path, folder: Path) -> None:
    yardstick, model = measure(start, [folder])
    model.eval()
    whole = yardstick._score(model, 0, 1)
    parts = [one for part in range(5) for one in yardstick._score(model, part, 5)]
    assert len(parts) == len(whole) == 24
    by_place = {(one.part, one.item): one for one in parts}
    for one in whole:
        other = by_place[one.part, one.item]
        assert (other.hash, other.scores) == (one.hash, one.scores)


def test_measuring_leaves_the_random_numbers_and_the_models_mode_as_they_were(start: Path, folder: Path) -> None:
    import torch

    yardstick, model = measure(start, [folder / "local_choice.yaml"], task_items=2)
    model.train()
    before = torch.random.get_rng_state(), random.getstate()
    yardstick.measure(model, None)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == random.getstate()
    assert model.training


def test_the_start_model_is_measured_once(start: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until items, their number, or the task change."""
    yardstick, model = measure(start, [folder / "local_choice.yaml"], task_items=3)
    asked: list[int] = []
    score = TaskYardstick._score
    monkeypatch.setattr(TaskYardstick, "_score", lambda *a: asked.append(1) or score(*a))  # counts, and scores
    first = yardstick.measure_start(model, "a model of this test")
    again, _ = measure(start, [folder / "local_choice.yaml"], task_items=3)
    assert again.measure_start(model, "a model of this test") == first
    assert len(asked) == 1
    for words, settings in (((folder / "local_write.yaml",), 3), ((folder / "local_choice.yaml",), 4)):
        measure(start, words, task_items=settings)[0].measure_start(model, "a model of this test")
    assert len(asked) == 3


def test_a_group_is_one_number_over_the_items_of_all_its_tasks(start: Path, folder: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        files = {"test": str(folder / "items.jsonl")}
        write_task(tmp_path, {**CHOICE, "task": f"part_{name}", "dataset_kwargs": {"data_files": files}})
    group = write_task(tmp_path, {"group": "both", "task": ["part_first", "part_second"]}, "both")
    yardstick, model = measure(start, [group], task_items=3)
    found = yardstick.measure(model, None)
    assert {one.task for one in found} == {"both"}
    assert [one.part for one in found] == ["part_first"] * 3 + ["part_second"] * 3


TOTAL = {
    **{key: WRITE[key] for key in ("dataset_path", "test_split", "task")},
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "word_perplexity"}],
}
CLASH = {"a": CHOICE, "b": CHOICE}


@pytest.mark.parametrize(
    ("files", "words", "told"),
    [
        ({}, ["gsm8q"], "lm-evaluation-harness has no task gsm8q, and no file has that name. Did you mean gsm8k?"),
        ({}, ["{here}/nothing.yaml"], "nothing.yaml: no such file or folder."),
        ({}, ["{here}"], "holds no YAML file of a task."),
        ({"a": CHOICE}, ["{here}/a.yaml"], "a.yaml: FileNotFoundError: Unable to find"),
        ({"a": {**CHOICE, "unsafe_code": True}}, ["{here}/a.yaml"], "local_choice would run the code that the model"),
        (CLASH, ["{here}"], "b.yaml cannot be read, or another file of"),
        ({"a": {"dataset_path": "json"}}, ["{here}/a.yaml"], "a.yaml: ValueError: Unknown config shape"),
        ({}, ["{tasks}/local_choice.yaml", "{tasks}"], "names the task local_choice twice."),
    ],
)
def test_mistakes(tmp_path: Path, folder: Path, files: dict[str, dict[str, Any]], words: list[str], told: str) -> None:
    for name, task in files.items():
        data = {} if "no such" in told or "FileNotFound" in told else {"data_files": {"test": f"{folder}/items.jsonl"}}
        write_task(tmp_path, {**task, **({"dataset_kwargs": data} if data else {})}, name)
    with pytest.raises(UserError) as raised:
        load_tasks([word.format(here=tmp_path, tasks=folder) for word in words])
    assert told in str(raised.value)
    assert str(raised.value).startswith("evaluate.tasks")
    assert "\n" not in str(raised.value)


def test_a_score_for_all_items_together_is_no_score_of_each(start: Path, folder: Path, tmp_path: Path) -> None:
    file = write_task(tmp_path, {**TOTAL, "dataset_kwargs": {"data_files": {"test": f"{folder}/items.jsonl"}}})
    yardstick, model = measure(start, [file], task_items=2)
    with pytest.raises(UserError, match="local_write has no score for each item, only one for all"):
        yardstick.measure(model, None)


def test_offline_a_task_of_the_hub_is_named_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained, and in one line."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    done = run(tmp_path / "run", *WORDS, "evaluate.tasks=[gsm8k]")
    assert done.code == 1
    assert not (tmp_path / "run").exists()
    (told,) = [line for line in done.err.splitlines() if line.startswith("alignzoo:")]
    assert told.startswith("alignzoo: evaluate.tasks: gsm8k (openai/gsm8k): not in the local cache, and the hub cannot")


def test_what_another_package_is_needed_for_is_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "helper.py").write_text("import nobody_has_this\n\n\ndef text(doc):\n    return doc['question']\n")
    file = write_task(tmp_path, {**CHOICE, "doc_to_text": "FUNCTION"})
    file.write_text(file.read_text().replace("FUNCTION", "!function helper.text"))
    with pytest.raises(UserError, match=r"needs a package: No module named 'nobody_has_this'\. Install it with pip"):
        load_tasks([str(file)])

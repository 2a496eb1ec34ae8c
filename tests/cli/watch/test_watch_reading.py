"""What `watch` reads of each kind of folder, from folders made by hand."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from watched import (
    PROMPTS,
    answer,
    begin,
    fail,
    finish,
    hold_elsewhere,
    make_sweep,
    pick,
    plan_study,
    plan_sweep,
    train,
)

from alignzoo.cli.watch.reading import Watch
from alignzoo.runs import sweep_status
from alignzoo.runs.progress import MEASURING
from alignzoo.system.lock import hold_lock

Counts = list[list[Any]]


def counts(watch: Watch) -> Counts:
    found: Counts = watch.read()["counts"]
    return found


def details(watch: Watch, place: int = 0) -> dict[str, Any]:
    found = watch.read_run(watch.read()["runs"][place]["key"])
    assert found is not None
    return found


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return make_sweep(tmp_path / "sweep")


def test_a_sweep(sweep: Path) -> None:
    with hold_lock(sweep / "1-dpo"):
        found = Watch(sweep).read()
    assert found["kind"] == "sweep"
    assert found["counts"] == [["done", 1], ["running", 1], ["failed", 1], ["pending", 1]]
    done, running, failed, pending = found["runs"]
    assert pick(found["runs"], "name")[:2] == ["method=dpo method.beta=0.1", "method=dpo method.beta=0.5"]
    assert (done["objective"], done["seconds"], done["memory"], done["step"]) == ("accuracy 80%", "60 s", "3.2 GB", 40)
    assert (running["phase"], running["step"], running["steps"], running["left"]) == ("training", 10, 40, "30 s")
    assert (running["memory"], running["free"]) == ("3.2 GB", "9.0 GB")
    assert dict(running["numbers"])["margin"] == "0.5"
    assert failed["detail"] == "the moon is full"
    assert (pending["key"], pending["method"]) == ("", "ipo")
    assert done["colour"] == running["colour"] != failed["colour"] == pending["colour"]


def test_the_time_that_is_left(sweep: Path) -> None:
    """30 s of training, 4 s of measuring as the finished job had, and 60 s of the one that waits, one at a time."""
    with hold_lock(sweep / "1-dpo"):
        assert Watch(sweep).read()["left"] == "2 min"  # 94 s
        with hold_lock(train(sweep / "2-ipo", 40, 20)):
            (sweep / "2-ipo" / "error.txt").unlink()
            assert Watch(sweep).read()["left"] == "59 s"  # 34, 24 and 60 s, by two
        fail(sweep / "2-ipo", "the moon is full")
        train(sweep / "1-dpo", 40, 40, phase=MEASURING)
        assert Watch(sweep).read()["left"] == "64 s", "4 s of measuring, and the one that waits"
    assert Watch(sweep).read()["left"] == "", "nothing runs"


def test_curves_are_those_of_the_progress_bar(sweep: Path) -> None:
    watch = Watch(sweep)
    keys = pick(watch.read()["runs"], "key")
    curves = watch.read_curves()
    assert list(curves) == ["loss", "accuracy", "margin"]
    assert list(curves["loss"]) == keys[:3]
    assert [step for step, _ in curves["margin"][keys[1]]] == list(range(1, 11))
    assert curves["margin"][keys[1]][-1] == [10, 0.5], "ten points are not smoothed"


def test_long_curves_are_thinned_and_keep_their_end(tmp_path: Path) -> None:
    watch = Watch(train(begin(tmp_path / "run"), 5_000, 4_999))
    watch.read()
    (points,) = watch.read_curves()["loss"].values()
    assert 100 < len(points) <= 200
    assert points[-1][0] == 4_999


def test_a_run_at_each_point(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    watch = Watch(tmp_path)
    assert watch.read()["notes"] == ["Nothing has begun here yet."]
    watch = Watch(begin(folder))
    with hold_lock(folder):
        assert (watch.read()["kind"], watch.read()["runs"][0]["phase"]) == ("run", "preparing")
        assert watch.read()["left"] == ""
        (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
        assert watch.read()["runs"][0]["phase"] == "training", "one of a version that wrote no progress"
        train(folder, 40, 1)
        assert watch.read()["runs"][0]["phase"] == "training"
        train(folder, 40, 40, phase=MEASURING)
        assert (watch.read()["runs"][0]["phase"], watch.read()["left"]) == ("measuring", "")
        assert not watch.read()["is_over"]
    assert counts(watch) == [["stopped", 1]]
    finish(folder)
    assert watch.read()["is_over"]
    assert counts(watch) == [["done", 1]]


def test_a_run_that_has_just_got_its_folder_runs(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It locks the folder only when it has imported and checked what it needs."""
    (sweep / "3-ipo").mkdir()
    watch = Watch(sweep)
    last = watch.read()["runs"][3]
    assert (last["state"], last["phase"]) == ("running", "preparing")
    monkeypatch.setattr("alignzoo.cli.watch.reading.STARTING", 0.0)
    assert watch.read()["runs"][3]["state"] == "stopped"


def test_answers_as_they_change(tmp_path: Path) -> None:
    watch = Watch(begin(tmp_path / "run"))
    assert details(watch)["answers"] == []
    for step, said in ((0, "Start."), (10, "Start."), (20, "Better.")):
        answer(tmp_path / "run", step, said)
    found = details(watch)["answers"]
    assert pick(found, "prompt") == PROMPTS[:5]
    start, better = found[4]["versions"]
    assert (start["when"], start["until"], start["text"]) == ("start model", "step 10", "Start.")
    assert (better["when"], better["until"], better["text"], better["cut"]) == ("step 20", "", "Better.", False)
    finish(tmp_path / "run")
    found = details(watch)
    assert pick(found["answers"][0]["versions"], "text") == ["Start.", "Better.", "Trained."]
    assert found["numbers"] == [["preference accuracy", "50%", "80%"]]


def test_a_run_without_answers_on_the_way_has_those_before_and_after(tmp_path: Path) -> None:
    watch = Watch(finish(begin(tmp_path / "run")))
    assert pick(details(watch)["answers"][0]["versions"], "when") == ["start model", "trained"]


def test_a_pipeline(tmp_path: Path) -> None:
    stages = {"sft": {"method": "sft"}, "dpo": {"method": "dpo"}}
    account = yaml.safe_dump({"command": "c", "pipeline": {"stages": stages}}, sort_keys=False)
    (tmp_path / "pipeline.yaml").write_text(account)
    finish(begin(tmp_path / "1-sft", "sft"))
    found = Watch(tmp_path).read()
    assert (found["kind"], found["counts"]) == ("pipeline", [["done", 1], ["pending", 1]])
    assert (pick(found["runs"], "name"), pick(found["runs"], "method")[1]) == (["sft", "dpo"], "dpo")


def test_a_pipeline_in_rounds_that_generates_its_rows(tmp_path: Path) -> None:
    stages = {"answers": {"generate": "pairs"}, "dpo": {"method": "dpo", "data": "answers"}}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({"pipeline": {"rounds": 2, "stages": stages}}))
    for number in (1, 3):
        (begin(tmp_path / f"{number}-answers-{number // 2 + 1}") / "run.yaml").write_text("generate: {name: pairs}\n")
    made = {"counts": {"prompts": 8, "rows": 6}, "scores": {"mean": 0.5}, "sampling": {"samples": 4}, "start": {}}
    (tmp_path / "1-answers-1" / "generated.json").write_text(json.dumps({**made, "kind": "pairs"}))
    finish(begin(tmp_path / "2-dpo-1"))
    with hold_lock(tmp_path / "3-answers-2"):
        found = Watch(tmp_path).read()
    assert pick(found["runs"], "name") == ["answers-1", "dpo-1", "answers-2", "dpo-2"]
    assert pick(found["runs"], "state") == ["done", "done", "running", "pending"]
    assert found["runs"][0]["detail"].startswith("8 prompts x 4 answers: 6 pairs; mean score 0.5")
    assert found["runs"][2]["phase"] == "generating"


def test_a_sweep_of_pipelines(tmp_path: Path) -> None:
    folder = plan_sweep(tmp_path / "sweep", "+pipeline=one", "seed=1,2")
    begin(folder / "0-one" / "1-sft")
    (folder / "0-one" / "pipeline.yaml").write_text("pipeline: {stages: {sft: {method: sft}, dpo: {method: dpo}}}")
    found = Watch(folder).read()["runs"]
    assert pick(found, "name") == ["sft", "dpo", "seed=2"]
    assert pick(found, "part") == ["seed=1", "seed=1", ""]
    assert pick(found, "state") == ["stopped", "pending", "pending"]


def test_a_study(tmp_path: Path) -> None:
    watch = Watch(plan_study(tmp_path))
    found = watch.read()
    assert (found["kind"], found["counts"]) == ("study", [["pending", 4 + 4]])
    assert found["answer"] == ["The study runs: the test rows were not looked at yet."]
    plan_sweep(tmp_path / "tune", "seed=0", "+trial=dpo-1,simpo-1,dpo-2,simpo-2")
    fail(begin(tmp_path / "tune" / "0-dpo"), "the moon is full")
    found = watch.read()
    assert found["counts"] == [["failed", 1], ["pending", 7]]
    assert (found["runs"][0]["name"], found["runs"][0]["part"]) == ("dpo, trial 1: beta 0.1", "tune")
    assert "dpo: 1 of 2 trials: failed." in found["answer"]
    (tmp_path / "winners.yaml").write_text(yaml.safe_dump({"dpo": {"trial": 2}, "simpo": {"trial": 1}}))
    found = watch.read()["runs"]
    assert pick(found, "name")[4:6] == ["dpo, seed 1: beta 0.2", "simpo, seed 1: beta 0.1"]


def test_several_runs(tmp_path: Path) -> None:
    for name in ("a/one", "b/two"):
        finish(begin(tmp_path / name))
    found = Watch(tmp_path).read()
    assert (found["kind"], pick(found["runs"], "name")) == ("runs", ["a/one", "b/two"])


def test_a_run_of_another_machine_runs_as_long_as_it_writes(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock does not reach this machine; what it has written does."""
    watch = Watch(sweep)
    assert counts(watch)[1] == ["failed", 1]
    with hold_elsewhere(sweep / "1-dpo"):
        assert watch.read()["runs"][1]["state"] == "running"
        assert watch.read()["runs"][1]["detail"] == ""
        long_ago = time.time() - 300
        for file in (*(sweep / "1-dpo").iterdir(), sweep / "1-dpo"):
            os.utime(file, (long_ago, long_ago))
        assert watch.read()["runs"][1]["detail"] == "last wrote 5 min ago"
        monkeypatch.setattr(sweep_status, "QUIET", 200)
        assert watch.read()["runs"][1]["state"] == "stopped"
    assert sweep_status.read_jobs(sweep)[1].state == "stopped"

"""Pipelines that train on the model's own answers, on random weights: rounds, held-out prompts, kills, the board."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import QUICK
from inprocess import Outcome, call, run

pytestmark = pytest.mark.slow

FAST = (
    *(*QUICK, "evaluate.shown=0", "train.max_steps=2", "train.warmup_steps=0", "reward=length"),
    "reward.length.slack=50",
    "generate.allow_cut_off=true",
)
#: The same without keys of one reward, so that another can be named.
BARE = tuple(word for word in FAST if not word.startswith("reward"))
LEARNS = 'pipeline.stages.dpo.overrides=["method.learning_rate=1e-3"]'
ITERATIVE = ("+pipeline=iterative_dpo", *FAST, LEARNS)
NAMES = ("1-generate-1", "2-dpo-1", "3-generate-2", "4-dpo-2")


def read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text()))


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def iterative(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    """Run two rounds."""
    done = run(tmp_path_factory.mktemp("iterative") / "run", *ITERATIVE)
    assert done.code == 0, done.err
    return done


def test_each_round_samples_from_the_policy_of_the_round_before(iterative: Outcome) -> None:
    starts = [Path(read(iterative.folder / name / "generated.json")["start"]["folder"]) for name in NAMES[::2]]
    assert starts == [Path(read(iterative.folder / "2-dpo-1" / "result.json")["start"]["folder"]), model(iterative, 1)]
    assert Path(read(iterative.folder / "4-dpo-2" / "result.json")["start"]["folder"]) == model(iterative, 1)
    first, second = (rows(iterative.folder / name / "samples.jsonl") for name in NAMES[::2])
    assert [one["prompt"] for one in first] == [one["prompt"] for one in second]
    assert [one["completion"] for one in first] != [one["completion"] for one in second]


def model(done: Outcome, place: int) -> Path:
    return done.folder / NAMES[place] / "model"


def test_each_round_trains_on_its_own_pairs(iterative: Outcome) -> None:
    for made, trained in (NAMES[:2], NAMES[2:]):
        manifest = pd.read_parquet(iterative.folder / trained / "data.parquet")
        used = manifest[manifest["decision"] == "train"]
        assert set(used["source"]) == {f"{made}/train.jsonl"}
        assert set(used["id"]) == {row["id"] for row in rows(iterative.folder / made / "train.jsonl")}


def test_what_a_stage_holds_out_no_later_stage_trains_on(iterative: Outcome) -> None:
    """Prompts are compared as texts: of the answers that were measured, and of all rows that were held out."""
    held: set[str] = set()
    hashes = set()
    for name in NAMES:
        folder = iterative.folder / name
        if (folder / "train.jsonl").exists():
            asked = {row["prompt"][-1]["content"] for row in rows(folder / "samples.jsonl")}
            assert len(asked) == 16
            assert not asked & held
        else:
            held |= {line["prompt"] for line in rows(folder / "answers.jsonl")}
            hashes.add(read(folder / "result.json")["data"]["heldout"])
    assert len(held) == 4
    assert len(hashes) == 1, "all stages hold out the same rows"
    assert hashes == {read(iterative.folder / NAMES[0] / "generated.json")["data"]["heldout"]}


def test_a_planted_held_out_prompt_is_not_trained_on(iterative: Outcome, tmp_path: Path) -> None:
    held = rows(iterative.folder / "2-dpo-1" / "answers.jsonl")[0]["prompt"]
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "generated.json").write_bytes((iterative.folder / NAMES[0] / "generated.json").read_bytes())
    row = rows(iterative.folder / NAMES[0] / "train.jsonl")[0]
    row |= {"id": "planted", "prompt": [{"role": "user", "content": held}]}
    own = (iterative.folder / NAMES[0] / "train.jsonl").read_text()
    (planted / "train.jsonl").write_text(f"{json.dumps(row)}\n{own}")
    words = [word for word in FAST if not word.startswith("generate")]
    done = run(tmp_path / "run", *words, f"dataset.generated={planted}")
    assert done.code == 0, done.err
    manifest = pd.read_parquet(done.folder / "data.parquet").set_index("id")
    assert tuple(manifest.loc["planted", ["decision", "reason"]]) == ("dropped", "its prompt is held out")


def test_the_board_names_what_was_generated_and_all_are_measured_against_the_start(iterative: Outcome) -> None:
    table = pd.read_csv(iterative.folder / "leaderboard.csv", keep_default_na=False)
    assert list(table["method"]) == ["dpo", "dpo"]
    assert set(table["status"]) == {"finished"}
    page = (iterative.folder / "leaderboard.html").read_text()
    board = iterative.out.rpartition("\npipeline ")[2]
    for name in NAMES[::2]:
        counts = read(iterative.folder / name / "generated.json")["counts"]
        line = f"enerated: {name}: 16 prompts x 4 answers: {counts['rows']} pairs"
        assert line in board
        assert line in page
    against = [read(iterative.folder / name / "result.json")["against"] for name in NAMES[1::2]]
    assert against[0] == against[1] == read(iterative.folder / "2-dpo-1" / "result.json")["start"]


def test_a_stages_command_generates_the_same_by_itself(iterative: Outcome, tmp_path: Path) -> None:
    import shlex

    words = shlex.split((iterative.folder / NAMES[2] / "command.txt").read_text())[3:]
    again = run(tmp_path / "again", *words)
    assert again.code == 0, again.err
    for name in ("train.jsonl", "samples.jsonl"):
        assert (again.folder / name).read_bytes() == (iterative.folder / NAMES[2] / name).read_bytes()


@pytest.mark.long
def test_more_rounds_go_on_behind_those_that_are_there(tmp_path: Path) -> None:
    first = run(tmp_path / "run", *ITERATIVE, "pipeline.rounds=1")
    assert first.code == 0, first.err
    done = run(tmp_path / "run", *ITERATIVE, "pipeline.rounds=2")
    assert done.code == 0, done.err
    assert done.out.count("finished before") == 2
    assert (tmp_path / "run" / NAMES[3] / "result.json").is_file()


def test_other_settings_of_a_generation_are_refused_and_do_not_touch_a_trained_stage(iterative: Outcome) -> None:
    done = run(iterative.folder, *ITERATIVE, "generate.samples=5")
    assert done.err.startswith("alignzoo: pipeline stage generate-1: it was finished with other settings (")


@pytest.mark.long
def test_a_pipeline_killed_in_the_middle_of_its_answers_ends_the_same(tmp_path: Path) -> None:
    words = ("+pipeline=on_policy_dpo", *FAST, LEARNS, "evaluate.batch_size=1")
    whole = run(tmp_path / "whole", *words)
    assert whole.code == 0, whole.err
    cache = tmp_path / "own-cache"
    environment = {**os.environ, "ALIGNZOO_CACHE": str(cache)}
    command = [sys.executable, "-m", "alignzoo", *words, f"hydra.run.dir={tmp_path / 'killed'}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        wait_for_lines(cache / "generated", 3, started)
        started.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "1-generate" / "generated.json").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 16 batches of answers are in the cache" in done.stdout
    for name in ("1-generate/train.jsonl", "1-generate/samples.jsonl", "2-dpo/model/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (whole.folder / name).read_bytes(), name


def wait_for_lines(folder: Path, count: int, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while sum(file.read_text().count("\n") for file in folder.glob("*.jsonl")) < count:
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_rejection_sampling_trains_on_the_best_and_is_measured_on_pairs(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "+pipeline=rejection_sampling", *FAST)
    assert done.code == 0, done.err
    found = read(tmp_path / "run" / "2-sft" / "result.json")
    assert found["plan"]["rows"] == read(tmp_path / "run" / "1-generate" / "generated.json")["counts"]["rows"] == 16
    assert {"preference_accuracy", "margin", "reward"} <= found["after"].keys()


def test_a_reward_model_of_an_earlier_stage_scores(tmp_path: Path) -> None:
    own = tmp_path / "pipeline"
    own.mkdir()
    (own / "scored.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - /generate: pairs\n  - _self_\n"
        "pipeline:\n  name: scored\n  stages:\n    scorer: {method: reward}\n"
        "    pairs: {generate: pairs, reward: scorer}\n"
    )
    done = run(tmp_path / "run", "--config-dir", str(tmp_path), "+pipeline=scored", *BARE)
    assert done.code == 0, done.err
    found = read(tmp_path / "run" / "2-pairs" / "generated.json")
    assert found["reward"]["model"]["path"] == str(tmp_path / "run" / "1-scorer" / "model")
    assert found["counts"]["rows"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("generate.samples=1",), "pipeline stage generate: generate.samples=1: keep=best_worst makes pairs"),
        (("pipeline.stages.generate.generate=paris",), "pipeline stage generate: generate=paris: no such"),
        (("generate.sampels=1",), "generate.sampels: unknown key. Did you mean generate.samples"),
        (("reward=none",), "pipeline stage generate: generate.scored_by=auto: nothing scores the answers"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sampled(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    done = run(tmp_path / "pipe", "+pipeline=on_policy_dpo", *BARE, *words)
    assert done.code == 1
    assert done.err.startswith(f"alignzoo: {told}")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "pipe").exists()


def test_a_generation_that_fails_says_how_to_resume(tmp_path: Path) -> None:
    done = run(tmp_path / "pipe", "+pipeline=on_policy_dpo", *BARE, "reward=format")
    assert done.code == 1
    first, second = done.err.splitlines()[-2:]
    assert first.startswith("alignzoo: reward=format gives all 4 answers to a prompt the same score")
    assert second.startswith("alignzoo: pipeline stage generate has no result: the same command with hydra.run.dir=")


def test_a_sweep_of_generations_names_each(tmp_path: Path) -> None:
    words = [word for word in FAST if not word.startswith("train")]
    done = run(tmp_path / "sweep", "-m", "+generate=pairs", *words, "generate.temperature=0.5,1.0")
    assert done.code == 0, done.err
    assert done.out.rpartition("\nsweep ")[2].count("16 prompts x 4 answers") == 2
    again = call("report", str(tmp_path / "sweep"))
    assert again.code == 0, again.err
    assert call("sweep", "status", str(tmp_path / "sweep")).out.count("done   generated") == 2


@pytest.mark.long
def test_two_processes_sample_what_one_does(tmp_path: Path) -> None:
    words = ("+generate=pairs", *FAST[:3], "reward=length", "generate.allow_cut_off=true", "evaluate.batch_size=1")
    whole = run(tmp_path / "one", *words, "evaluate.max_new_tokens=8")
    assert whole.code == 0, whole.err
    shared = ("strategy=ddp", "strategy.processes=2", f"hydra.run.dir={tmp_path / 'two'}", "evaluate.max_new_tokens=8")
    environment = {**os.environ, "ALIGNZOO_CACHE": str(tmp_path / "own-cache")}
    command = [sys.executable, "-m", "alignzoo", *words, *shared]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("train.jsonl", "samples.jsonl"):
        assert (tmp_path / "two" / name).read_bytes() == (whole.folder / name).read_bytes()

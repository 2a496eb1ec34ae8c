"""Pipelines on random weights: what a stage hands on, restarts, failures, and the page at the end."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import QUICK
from inprocess import Outcome, run
from repository import ROOT
from stopping import PLUGIN

from alignzoo.system.signals import EXIT_CODE

pytestmark = pytest.mark.slow

FAST = (*QUICK, "evaluate.shown=0", "train.max_steps=2", "train.warmup_steps=0")
RLHF = (
    *("+pipeline=rlhf", "pipeline.stages.ppo.method=rloo", *FAST),
    'pipeline.stages.sft.overrides=["method.learning_rate=1e-3"]',
    'pipeline.stages.reward.overrides=["method.learning_rate=1e-3"]',
    'pipeline.stages.ppo.overrides=["method.learning_rate=1e-3","method.max_completion_length=12"]',
)
NAMES = ("1-sft", "2-reward", "3-ppo")


def result(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def answers(folder: Path, side: str) -> list[dict[str, Any]]:
    return [json.loads(line)[side] for line in (folder / "answers.jsonl").read_text().splitlines()]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def rlhf(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Outcome:
    """Run all three stages, with RLOO as the last one."""
    done = run(tmp_path_factory.mktemp("rlhf") / "run", *RLHF)
    assert done.code == 0, done.err
    return done


def test_each_stage_is_a_whole_run_in_its_folder(rlhf: Outcome) -> None:
    assert [result(rlhf.folder / name)["method"] for name in NAMES] == ["sft", "reward", "rloo"]
    for name in NAMES:
        files = {path.name for path in (rlhf.folder / name).iterdir()}
        assert files >= {"run.yaml", "command.txt", "environment.json", "data.parquet", "metrics.jsonl", "model"}
    assert "stage 3 of 3: ppo" in rlhf.out


def test_the_policy_is_handed_on(rlhf: Outcome) -> None:
    sft = str(rlhf.folder / "1-sft" / "model")
    assert [result(rlhf.folder / name)["start"]["folder"] for name in NAMES[1:]] == [sft, sft]
    assert Path(result(rlhf.folder / "1-sft")["start"]["folder"]).name == "tiny-0"


def test_the_reward_model_is_handed_on(rlhf: Outcome) -> None:
    """What the last stage's answers were rewarded with are that model's scores."""
    from alignzoo_plugins.rewards import RewardModel

    lines = [json.loads(line) for line in (rlhf.folder / "3-ppo" / "answers.jsonl").read_text().splitlines()]
    scorer = RewardModel(str(rlhf.folder / "2-reward"))
    scores = scorer([line["prompt"] for line in lines], [line["after"]["text"] for line in lines])
    assert [line["after"]["reward"] for line in lines] == pytest.approx(scores, abs=1e-5)


def test_policies_are_measured_against_where_the_pipeline_began(rlhf: Outcome) -> None:
    first, last = (result(rlhf.folder / name) for name in ("1-sft", "3-ppo"))
    assert first["against"] == last["against"] == first["start"]
    told = ("text", "chosen", "rejected")
    before = [
        [{key: row[key] for key in told} for row in answers(rlhf.folder / n, "before")] for n in ("1-sft", "3-ppo")
    ]
    assert before[0] == before[1]
    assert answers(rlhf.folder / "3-ppo", "after") != answers(rlhf.folder / "1-sft", "after"), "the last stage learned"
    assert last["after"]["kl"] > 0


def test_the_stages_stand_on_one_leaderboard(rlhf: Outcome) -> None:
    table = pd.read_csv(rlhf.folder / "leaderboard.csv", keep_default_na=False)
    assert set(table["method"]) == {"sft", "reward", "rloo"}
    assert not any(str(rlhf.folder) in setting for setting in table["setting"]), "paths are no setting"
    assert (rlhf.folder / "leaderboard.html").is_file()
    (scorer,) = table[table["method"] == "reward"].to_dict("records")
    assert float(scorer["reward_accuracy"]) == result(rlhf.folder / "2-reward")["after"]["reward_accuracy"]
    assert "RM accuracy" in rlhf.out.rpartition("\npipeline ")[2]


def test_the_last_stage_stands_beside_the_policy_that_it_began_with(rlhf: Outcome) -> None:
    page = (rlhf.folder / "comparison.html").read_text()
    assert re.findall(r"<h2>From (.*?)</h2>", page) == ["A sft to B sft + rloo"]
    assert page.count("<article") == len(answers(rlhf.folder / "3-ppo", "after"))
    assert f"page: {rlhf.folder / 'comparison.html'}" in rlhf.out


@pytest.mark.long
def test_ten_prompts_by_sft_and_by_dpo_with_what_changed(tmp_path: Path) -> None:
    """One command: the page has both answers to each prompt, the three axes, and what ten prompts can show."""
    words = ("+pipeline=sft_dpo", "experiment=ten-prompts", "model=tiny", "judge=rule", "evaluate.max_new_tokens=8")
    done = run(tmp_path / "pipe", *words, "evaluate.shown=0", "train.max_steps=2", "train.warmup_steps=0")
    assert done.code == 0, done.err
    assert "rows: 200 to train on" in done.out
    page = (tmp_path / "pipe" / "comparison.html").read_text()
    assert page.count("<article") == 10
    table = page.partition('<table id="summary">')[2].partition("</table>")[0]
    for label in ("helpfulness by a judge", "judge rule", "words per completion", "begin as a refusal"):
        assert f">{label}</td>" in table
    assert "9 of 10 prompts won" in page


@pytest.mark.long
def test_stages_that_share_no_prompt_are_not_compared_and_stay_finished(tmp_path: Path) -> None:
    other = 'pipeline.stages.dpo.overrides=["dataset.heldout.path=package://alignzoo.data/concise/validation.jsonl"]'
    done = run(tmp_path / "pipe", "+pipeline=sft_dpo", *FAST, other)
    assert done.code == 0, done.err
    assert "their completions are not compared: " in done.out
    assert "share no held-out prompt" in done.out
    assert not (tmp_path / "pipe" / "comparison.html").exists()


def test_a_stages_command_runs_it_by_itself(rlhf: Outcome, tmp_path: Path) -> None:
    words = shlex.split((rlhf.folder / "3-ppo" / "command.txt").read_text())[3:]
    again = run(tmp_path / "again", *words)
    assert again.code == 0, again.err
    assert weights(again.folder) == weights(rlhf.folder / "3-ppo")


def test_a_pipeline_goes_on_at_the_first_unfinished_stage(rlhf: Outcome, tmp_path: Path) -> None:
    """Also in another place: a finished stage's settings count, and not where it lies."""
    folder = tmp_path / "moved"
    shutil.copytree(rlhf.folder, folder)
    (folder / "3-ppo" / "result.json").unlink()
    kept = {name: (folder / name / "result.json").stat().st_mtime_ns for name in NAMES[:2]}
    done = run(folder, *RLHF)
    assert done.code == 0, done.err
    assert kept == {name: (folder / name / "result.json").stat().st_mtime_ns for name in NAMES[:2]}
    assert done.out.count("finished before") == 2
    assert weights(folder / "3-ppo") == weights(rlhf.folder / "3-ppo")
    steps = [json.loads(line)["step"] for line in (folder / "3-ppo" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 2], "nothing of the first attempt is left in it"


def test_a_finished_pipeline_only_compares(rlhf: Outcome) -> None:
    done = run(rlhf.folder, *RLHF)
    assert done.code == 0, done.err
    assert done.out.count("finished before") == 3


def test_other_settings_than_a_finished_stages_are_refused(rlhf: Outcome) -> None:
    done = run(rlhf.folder, *RLHF, "seed=1")
    assert done.code == 1
    assert done.err.startswith("alignzoo: pipeline stage sft: it was finished with other settings (")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("+pipeline=rlhf", "pipeline.stages.ppo.method=pppo"),
            "pipeline stage ppo: method=pppo: no installed plugin adds it.",
        ),
        (
            ("+pipeline=sft_dpo", 'pipeline.stages.dpo.overrides=["method.betta=1"]'),
            "pipeline stage dpo: method.betta: unknown key. Did you mean method.beta?",
        ),
        (
            ("+pipeline=sft_dpo", 'pipeline.stages.dpo.overrides=["method.beta=-1"]'),
            "pipeline stage dpo: method.beta=-1 must be above 0",
        ),
        (
            ("+pipeline=sft_dpo", 'pipeline.stages.dpo.overrides=["peft=loro"]'),
            "pipeline stage dpo: peft=loro: no such",
        ),
        (("+pipeline=sft_dpo", "method.beta=1"), "method.beta=1: each stage has its own method"),
        (("+pipeline=sft_dpo", "~pipeline.stages.sft"), "pipeline stage dpo: start=sft is not an earlier stage"),
    ],
)
def test_a_mistake_in_a_later_stage_is_told_before_the_first_trains(
    tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    done = run(tmp_path / "pipe", *words, *FAST)
    assert done.code == 1
    assert done.err.startswith(f"alignzoo: {told}")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "pipe").exists()


def test_a_stage_that_fails_keeps_the_others_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = ("+pipeline=sft_dpo", *FAST, "train.max_steps=-1")
    failing = 'pipeline.stages.dpo.overrides=["train.budget.tokens=1"]'
    done = run(tmp_path / "pipe", *words, failing)
    assert done.code == 1
    assert "alignzoo: train.budget.tokens=1 is less than one step" in done.err
    assert "alignzoo: pipeline stage dpo has no result: the same command with hydra.run.dir=" in done.err
    assert (tmp_path / "pipe" / "1-sft" / "result.json").is_file()
    assert (tmp_path / "pipe" / "2-dpo" / "error.txt").is_file()
    done = run(tmp_path / "pipe", *words)
    assert done.code == 0, done.err
    assert not (tmp_path / "pipe" / "2-dpo" / "error.txt").exists()


def test_a_stage_whose_folder_cannot_be_made_is_refused_in_lines(tmp_path: Path) -> None:
    """A file lies in its place; where the reason cannot be written beside it, it is printed all the same."""
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "1-sft").touch()
    done = run(tmp_path / "pipe", "+pipeline=sft_dpo", *FAST)
    first, second = done.err.splitlines()
    assert (
        first
        == f"alignzoo: the run folder {tmp_path}/pipe/1-sft cannot be written (File exists): set hydra.run.dir=FOLDER."
    )
    assert second.startswith("alignzoo: pipeline stage sft has no result: ")


@pytest.mark.long
def test_a_pipeline_that_is_told_to_stop_goes_on_in_the_middle_of_a_stage(
    tmp_path: Path, fake_package: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says its own command, once, and not that of a sweep, as which it runs its stages."""
    fake_package("fake_stop", PLUGIN)
    monkeypatch.setenv("STOPS", "1")
    words = ("+pipeline=sft_dpo", *FAST)
    done = run(tmp_path / "pipe", *words)
    assert done.code == EXIT_CODE
    said = f"alignzoo: stopped by SIGTERM at step 1 of 2. To resume:\n    python -m alignzoo {shlex.join(words)} "
    assert done.err == f"{said}hydra.run.dir={tmp_path / 'pipe'} resume=auto\n"
    monkeypatch.delenv("STOPS")
    done = run(tmp_path / "pipe", *words, "resume=auto")
    assert done.code == 0, done.err
    assert result(tmp_path / "pipe" / "1-sft")["cost"]["resumed"] == [1]


@pytest.mark.long
def test_an_adapter_is_merged_before_it_is_handed_on(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    words = ("+pipeline=sft_dpo", *FAST, "peft=lora", 'pipeline.stages.sft.overrides=["method.learning_rate=1e-2"]')
    done = run(tmp_path / "pipe", *words)
    assert done.code == 0, done.err
    first, second = tmp_path / "pipe" / "1-sft", tmp_path / "pipe" / "2-dpo"
    handed = result(second)["start"]["folder"]
    assert "1-sft-merged-" in handed
    assert result(second)["against"] == result(first)["start"], "and not the merged model without its adapter"
    merged, start = (AutoModelForCausalLM.from_pretrained(f) for f in (handed, result(first)["start"]["folder"]))
    name = "model.layers.0.mlp.up_proj.weight"
    assert (merged.get_parameter(name) - start.get_parameter(name)).abs().max() > 1e-4


@pytest.mark.long
def test_a_pipeline_of_ones_own_finds_the_options_beside_it(tmp_path: Path) -> None:
    """The file that the how-to shows, and an experiment in the same folder."""
    page = (ROOT / "docs" / "how-to" / "pipelines.md").read_text()
    own = tmp_path / "it's own"
    for name, text in {
        "pipeline/best.yaml": page.partition("```yaml\n")[2].partition("```")[0],
        "experiment/short.yaml": "# @package _global_\ntrain: {max_steps: 1, num_train_epochs: 1}\n",
    }.items():
        (own / name).parent.mkdir(parents=True)
        (own / name).write_text(text)
    words = ("--config-dir", str(own), "+pipeline=best", "experiment=short", *QUICK, "evaluate.enabled=false")
    done = run(tmp_path / "pipe", *words)
    assert done.code == 0, done.err
    names = ("1-sft", "2-scorer", "3-policy")
    assert [result(tmp_path / "pipe" / name)["cost"]["steps"] for name in names] == [1, 1, 1]


@pytest.mark.long
def test_a_sweep_runs_whole_pipelines_and_folds_their_seeds(tmp_path: Path) -> None:
    done = run(tmp_path / "sweep", "-m", "+pipeline=sft_dpo", *FAST, "seed=0,1", "evaluate.rows=2")
    assert done.code == 0, done.err
    assert len(list((tmp_path / "sweep").glob("*/2-dpo/result.json"))) == 2
    table = pd.read_csv(tmp_path / "sweep" / "leaderboard.csv", keep_default_na=False)
    assert sorted(zip(table["method"], table["seeds"], strict=True)) == [("dpo", 2), ("sft", 2)]

"""What a pipeline's YAML may say, and the words that each stage's command is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alignzoo import UserError
from alignzoo.launch import pipeline
from alignzoo.launch.stages import Stage, make_stage_words, read_stages, select_settings, select_shared_words

FOLDER = Path("pipe")
MODEL = OmegaConf.create({"name": "bundled", "path": None, "revision": None, "wheel": "w==1", "gguf_file": "a.gguf"})


def read(**stages: Any) -> list[Stage]:
    return read_stages(OmegaConf.create({"name": "mine", "stages": stages}), FOLDER)


def test_stages_are_read_in_their_order() -> None:
    first, scorer, last = read(
        sft={"method": "sft", "overrides": ["train.max_steps=2"]},
        scorer={"method": "reward", "start": "sft"},
        policy={"method": "grpo", "start": "sft", "reward": "scorer"},
    )
    assert (first.folder, first.overrides) == (FOLDER / "1-sft", ("train.max_steps=2",))
    assert (scorer.folder, scorer.start, scorer.trains) == (FOLDER / "2-scorer", "sft", "reward model")
    assert (last.folder, last.reward, last.is_finished) == (FOLDER / "3-policy", "scorer", False)


SFT = {"method": "sft"}

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no method": ({"one": {"start": None}}, "pipeline stage one: it has no method: add pipeline.stages.one.method="),
    "no keys": ({"one": None}, "pipeline stage one: it has no method"),
    "an unknown method": (
        {"one": {"method": "zzz", "install": "alignzoo-zzz"}},
        "pipeline stage one: method=zzz: no installed plugin adds it. To add it: pip install alignzoo-zzz. Or take "
        "another: pipeline.stages.one.method=METHOD.",
    ),
    "a name that is no folder's": ({"a/b": {"method": "sft"}}, "pipeline stage a/b: its name is also its folder's"),
    "an unknown key": ({"one": {"method": "sft", "begin": "x"}}, "pipeline stage one: unknown key begin."),
    "a wrong type": ({"one": {"method": "sft", "start": 1}}, "pipeline stage one: start=1 takes str or null."),
    "words that are no list": (
        {"one": {"method": "sft", "overrides": "a=1"}},
        "pipeline stage one: overrides=a=1 takes",
    ),
    "a later start": (
        {"one": {"method": "dpo", "start": "two"}, "two": SFT},
        "pipeline stage one: start=two is not an earlier stage",
    ),
    "itself as start": (
        {"one": {"method": "dpo", "start": "one"}},
        "pipeline stage one: start=one is not an earlier stage",
    ),
    "a reward model as start": (
        {"one": {"method": "reward"}, "two": {"method": "dpo", "start": "one"}},
        "pipeline stage two: start=one needs a policy, and method=reward trains another model.",
    ),
    "a policy as reward": (
        {"one": SFT, "two": {"method": "grpo", "reward": "one"}},
        "pipeline stage two: reward=one needs a reward model, and method=sft trains another model.",
    ),
    "an override without value": (
        {"one": {"method": "sft", "overrides": ["train.max_steps"]}},
        "pipeline stage one: its override 'train.max_steps' is not key=value.",
    ),
    "an override of the method": (
        {"one": {"method": "sft", "overrides": ["method=dpo"]}},
        "pipeline stage one: its override method=dpo is decided by pipeline.stages.one.method.",
    ),
    "a method beside a generation": (
        {"one": {"method": "dpo", "generate": "pairs"}},
        "pipeline stage one: method=dpo beside generate=pairs: a stage trains or generates; leave one out.",
    ),
    "rows for a generation": (
        {"one": {"generate": "pairs"}, "two": {"generate": "pairs", "data": "one"}},
        "pipeline stage two: data=one beside generate=pairs: a stage trains or generates; leave one out.",
    ),
    "rows of a stage that trains": (
        {"one": SFT, "two": {"method": "dpo", "data": "one"}},
        "pipeline stage two: data=one needs a stage that generates, and one trains.",
    ),
    "rows of a later stage": (
        {"one": {"method": "dpo", "data": "two"}, "two": {"generate": "pairs"}},
        "pipeline stage one: data=two is not an earlier stage (there: none); null takes the group `dataset`.",
    ),
    "a generation as start": (
        {"one": {"generate": "pairs"}, "two": {"method": "dpo", "start": "one"}},
        "pipeline stage two: start=one needs a policy, and one makes rows.",
    ),
    "an override of the rows handed on": (
        {"one": {"generate": "pairs"}, "two": {"method": "dpo", "data": "one", "overrides": ["dataset.generated=x"]}},
        "pipeline stage two: its override dataset.generated=x is decided by pipeline.stages.two.data.",
    ),
    "an override of the model handed on": (
        {"one": SFT, "two": {"method": "dpo", "start": "one", "overrides": ["model=tiny"]}},
        "pipeline stage two: its override model=tiny is decided by pipeline.stages.two.start.",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_that_names_the_stage(mistake: str) -> None:
    stages, told = MISTAKES[mistake]
    with pytest.raises(UserError) as found:
        read(**stages)
    assert told in str(found.value)
    assert "\n" not in str(found.value)


def test_every_policy_is_measured_against_where_the_chain_begins(tmp_path: Path) -> None:
    """The third stage too, which does not start from the first; a reward model is not measured against a policy."""
    stages = [
        Stage("sft", tmp_path / "1-sft", "sft"),
        Stage("dpo", tmp_path / "2-dpo", "dpo", start="sft"),
        Stage("ipo", tmp_path / "3-ipo", "ipo", start="dpo"),
        Stage("scorer", tmp_path / "4-scorer", "reward", start="ipo"),
    ]
    expected = [pipeline._list_inputs(stage, stages).get("evaluate.against") for stage in stages]
    assert expected == [None, *[tmp_path / "1-sft" / "model"] * 2, None]
    for stage, start in zip(stages, ("tiny", "1-sft/model", "2-dpo/model", "3-ipo/model"), strict=True):
        (stage.folder / "model").mkdir(parents=True)
        (stage.folder / "result.json").write_text(json.dumps({"before": {}, "after": {}, "start": {"folder": start}}))
    handed = [pipeline._make_inputs(stage, stages) for stage in stages]
    assert [found.get("evaluate.against") for found in handed] == [None, Path("tiny"), Path("tiny"), None]
    assert [found.get("model.path") for found in handed[1:]] == [stage.folder / "model" for stage in stages[:3]]


def test_a_pipeline_without_stages_is_refused() -> None:
    with pytest.raises(UserError, match=r"pipeline\.stages is empty"):
        read_stages(OmegaConf.create({"name": "mine"}), FOLDER)


def test_words_of_the_command_are_shared_but_the_pipelines_own() -> None:
    words = ["+pipeline=rlhf", "seed=1", "pipeline.stages.ppo.method=rloo", "~pipeline.stages.sft", "model=tiny"]
    assert select_shared_words(words) == ["seed=1", "model=tiny"]


@pytest.mark.parametrize("word", ["method=dpo", "method.beta=0.3", "+method.ld_alpha=0.5"])
def test_the_method_belongs_to_a_stage(word: str) -> None:
    with pytest.raises(UserError, match=r"each stage has its own method: 'pipeline.stages.STAGE.overrides="):
        select_shared_words([word])


def test_a_stages_own_words_replace_shared_ones() -> None:
    stage = Stage("a", FOLDER, "sft", overrides=("train.max_steps=2", "dataset=hh"))
    words = make_stage_words(stage, ["seed=1", "dataset=concise", "train.max_steps=5"], MODEL, {})
    assert words == ["seed=1", "method=sft", "train.max_steps=2", "dataset=hh"]


def test_a_model_that_is_handed_on_comes_from_nowhere_else() -> None:
    stage = Stage("b", FOLDER, "grpo", start="a", reward="r")
    handed = {"model.path": Path("it's/model"), "reward.model.path": Path("r/model")}
    words = make_stage_words(stage, ["model=bundled", "reward=length"], MODEL, handed)
    assert words == [
        *("model=bundled", "method=grpo", "model.gguf_file=null", "model.wheel=null", "reward=model"),
        *("model.path='it\\'s/model'", "reward.model.path='r/model'"),
    ]


def test_a_stage_that_generates_has_its_own_words() -> None:
    shared = ["seed=1", "generate.samples=8", "+generate.sample=2"]
    made = make_stage_words(Stage("a", FOLDER, generate="pairs", overrides=("generate.margin=1",)), shared, MODEL, {})
    assert made == [*shared, "+generate=pairs", "generate.margin=1"]
    trained = make_stage_words(Stage("b", FOLDER, "dpo"), shared, MODEL, {"dataset.generated": Path("1-a")})
    assert trained == ["seed=1", "method=dpo", "dataset.generated='1-a'"]


@pytest.mark.parametrize("word", ["generate=good", "+generate=good"])
def test_a_generation_belongs_to_a_stage(word: str) -> None:
    with pytest.raises(UserError, match=r"a stage has its own: pipeline\.stages\.STAGE\.generate=good"):
        select_shared_words([word])


ROUNDS: dict[str, dict[str, Any]] = {
    "generate": {"generate": "pairs", "next": "dpo"},
    "dpo": {"method": "dpo", "start": None, "next": "dpo", "data": "generate", "overrides": ["seed=2"]},
}


def test_rounds_start_where_the_round_before_ended() -> None:
    stages = read_stages(OmegaConf.create({"name": "mine", "rounds": 3, "stages": ROUNDS}), FOLDER)
    assert [stage.folder.name for stage in stages][:4] == ["1-generate-1", "2-dpo-1", "3-generate-2", "4-dpo-2"]
    starts = [None, None, "dpo-1", "dpo-1", "dpo-2", "dpo-2"]
    assert [(stage.start, stage.data) for stage in stages] == [
        (start, None if place % 2 == 0 else f"generate-{place // 2 + 1}") for place, start in enumerate(starts)
    ]
    assert stages[3].overrides == ("seed=2",)


def test_what_rounds_share_is_named_by_the_yaml() -> None:
    wrong = {**ROUNDS, "dpo": {**ROUNDS["dpo"], "overrides": ["method=ipo"]}}
    with pytest.raises(
        UserError, match=r"stage dpo-1: its override method=ipo is decided by pipeline\.stages\.dpo\.method"
    ):
        read_stages(OmegaConf.create({"name": "mine", "rounds": 2, "stages": wrong}), FOLDER)


@pytest.mark.parametrize(
    ("rounds", "following", "told"),
    [
        (0, "dpo", "pipeline.rounds=0 must be a whole number of at least 1."),
        ("two", "dpo", "pipeline.rounds=two must be a whole number of at least 1."),
        (2, "zzz", "pipeline stage generate: next=zzz is not a stage of the pipeline (there: generate, dpo)."),
        (None, "dpo", "pipeline stage generate: unknown key next."),
    ],
)
def test_rounds_that_cannot_be_are_refused(rounds: Any, following: str, told: str) -> None:
    stages = {**ROUNDS, "generate": {"generate": "pairs", "next": following}}
    with pytest.raises(UserError) as found:
        read_stages(OmegaConf.create({"name": "mine", "rounds": rounds, "stages": stages}), FOLDER)
    assert str(found.value).startswith(told)


def test_a_stage_in_rounds_is_measured_against_where_the_first_began(tmp_path: Path) -> None:
    stages = read_stages(OmegaConf.create({"name": "mine", "rounds": 3, "stages": ROUNDS}), tmp_path)
    found = [pipeline._list_inputs(stage, stages) for stage in stages]
    assert found[0] == {}
    assert found[1] == {"dataset.generated": tmp_path / "1-generate-1"}
    assert found[4] == {"model.path": tmp_path / "4-dpo-2" / "model"}
    assert found[5] == {
        "model.path": tmp_path / "4-dpo-2" / "model",
        "evaluate.against": tmp_path / "2-dpo-1" / "model",
        "dataset.generated": tmp_path / "5-generate-3",
    }


def test_settings_do_not_depend_on_where_models_lie() -> None:
    one = ["model.path=a/model", "seed=1", "evaluate.against=x", "reward.model.path=r"]
    assert select_settings(one) == select_settings(["seed=1", "model.path=b/model"]) == ["seed=1"]

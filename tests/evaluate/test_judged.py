"""The judge of a run: its verdicts become the win rate, and its failure costs no run its result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import QUICK
from inprocess import run

from alignzoo.config.check import check
from alignzoo.config.compose import compose
from alignzoo.evaluate.judge import build_configured_judges
from alignzoo.system.errors import UserError

JUDGES = """
from alignzoo import Judge, UserError, hookimpl


class Tired(Judge):
    "Prefers the first answer, to some prompts."

    name = "tired"

    def __init__(self, patience):
        self.patience = patience

    def __call__(self, prompts, a, b):
        self.patience -= len(prompts)
        if self.patience < 0:
            raise UserError("the judge went to sleep.")
        return [1.0] * len(prompts)


@hookimpl
def alignzoo_judges():
    return [Tired]


@hookimpl
def alignzoo_config_packages():
    return ["fake_judges.conf"]
"""
YAML = {"judge/tired.yaml": "# A judge for a test.\nname: tired\n\n# Answers.\npatience: 100\n"}

WORDS = (*QUICK, "method.learning_rate=0.003", "train.warmup_steps=0", "judge=tired")


def test_verdicts_become_the_win_rate(tmp_path: Path, cache: Path, fake_package: Callable[..., None]) -> None:
    fake_package("fake_judges", JUDGES, YAML)
    done = run(tmp_path / "run", *WORDS, "judge@judge.second=rule", "judge.second.least=1")
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (done.folder / "answers.jsonl").read_text().splitlines()]
    wins = [0.5 if line["after"]["text"] == line["before"]["text"] else 1.0 for line in lines]
    assert [line["after"]["win"] for line in lines] == wins
    assert done.result()["after"]["win_rate"] == sum(wins) / len(wins) > 0.5
    assert done.result()["before"]["win_rate"] == 0.5
    assert "wins against the start model" in done.out
    second = [line["after"]["win_second"] for line in lines]
    assert set(second) <= {0.0, 0.5, 1.0}
    assert done.result()["after"]["win_rate_second"] == sum(second) / len(second)
    assert 0 <= done.result()["after"]["win_rate_lc"] <= 1
    assert done.result()["before"]["win_rate_lc"] == done.result()["before"]["win_rate_second"] == 0.5
    agreement = done.result()["agreement"]
    assert agreement["verdicts"] == len(lines)
    assert agreement["equal"] == sum(a == b for a, b in zip(wins, second, strict=True))
    assert f"The two judges agree on {agreement['equal']} of {len(lines)} verdicts" in " ".join(done.out.split())


def test_a_run_without_a_reward_aims_at_its_judges_wins_at_equal_length(
    tmp_path: Path, cache: Path, fake_package: Callable[..., None]
) -> None:
    fake_package("fake_judges", JUDGES, YAML)
    for judge, objective in (("tired", "win_rate_lc"), ("rule", "win_rate")):
        done = run(tmp_path / judge, *WORDS[:-1], "reward=none", f"judge={judge}")
        assert done.code == 0, done.err
        assert done.result()["objective"] == objective
        assert objective in done.result()["after"]


def test_a_judge_that_fails_costs_no_run_its_result(
    tmp_path: Path, cache: Path, fake_package: Callable[..., None]
) -> None:
    fake_package("fake_judges", JUDGES, YAML)
    done = run(tmp_path / "run", *WORDS, "judge.patience=0")
    assert done.code == 0, done.err
    assert "win_rate" not in done.result()["after"]
    assert "margin" in done.result()["after"]
    log = (done.folder / "alignzoo.log").read_text()
    assert "the judge went to sleep." in log


def test_a_judges_mistake_is_told_before_anything_is_trained(
    tmp_path: Path, cache: Path, fake_package: Callable[..., None]
) -> None:
    fake_package("fake_judges", JUDGES, YAML)
    done = run(tmp_path / "run", *WORDS, "+judge.patiense=3")
    assert done.code == 1
    assert "judge=tired: got an unexpected keyword argument 'patiense'" in done.err
    assert not done.folder.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("judge@judge.second=rule",), "judge@judge.second=rule needs a first judge: add judge=NAME."),
        (("judge=rule", "judge.second=rule"), "judge.second=rule: write judge@judge.second=rule; judge.second.* are"),
        (("judge=rule", "judge@judge.second=rule"), "the second judge is the first one again (rule): choose one of"),
        (
            ("judge=rule", "judge@judge.second=rule", "+judge.second.lest=3"),
            "judge@judge.second=rule: got an unexpected keyword argument 'lest'. Did you mean least?",
        ),
        (
            ("judge=rule", "judge@judge.second=rule", "judge.second.distinct=2"),
            "judge.second.distinct=2 must be between 0 and 1",
        ),
    ],
)
def test_a_second_judge_that_cannot_be_is_told(cache: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(told)}"):
        build_configured_judges(check(compose(["model=tiny", *words])).cfg.judge)


def test_runs_of_an_older_alignzoo_have_no_second_judge(cache: Path) -> None:
    from omegaconf import open_dict

    cfg = compose(["model=tiny", "judge=rule"])
    with open_dict(cfg):
        del cfg.judge.second
    assert [judge.name for judge in build_configured_judges(check(cfg).cfg.judge)] == ["rule"]

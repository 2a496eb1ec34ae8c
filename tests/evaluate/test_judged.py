"""The judge of a run: its verdicts become the win rate, and its failure costs no run its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from conftest import QUICK
from inprocess import run

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
    done = run(tmp_path / "run", *WORDS)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (done.folder / "answers.jsonl").read_text().splitlines()]
    wins = [0.5 if line["after"]["text"] == line["before"]["text"] else 1.0 for line in lines]
    assert [line["after"]["win"] for line in lines] == wins
    assert done.result()["after"]["win_rate"] == sum(wins) / len(wins) > 0.5
    assert done.result()["before"]["win_rate"] == 0.5
    assert "wins against the start model" in done.out


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

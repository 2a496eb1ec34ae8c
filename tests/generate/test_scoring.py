"""Answers scored by a judge, which compares those to one prompt with each other, and by rewards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from omegaconf import OmegaConf

from alignzoo import Judge
from alignzoo.evaluate.completions import Completion
from alignzoo.evaluate.rewards import build_rewards
from alignzoo.generate.score import score_by_judge, score_by_reward


class Longer(Judge):
    """The longer answer."""

    name = "longer_answer"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def __call__(self, prompts: list[str], a: list[str], b: list[str]) -> list[float]:
        self.seen += zip(prompts, a, b, strict=True)
        return [0.5 if len(x) == len(y) else float(len(x) > len(y)) for x, y in zip(a, b, strict=True)]


def rows(*prompts: str, **extra: list[Any]) -> Dataset:
    return Dataset.from_dict(
        {
            "prompt": [
                json.dumps([{"role": "system", "content": "Be kind."}, {"role": "user", "content": p}]) for p in prompts
            ],
            "extra": [
                json.dumps({name: values[place] for name, values in extra.items()}) for place in range(len(prompts))
            ],
            "template_inputs": [None] * len(prompts),
        }
    )


def answers(*texts: str) -> list[Completion]:
    return [Completion(text, 1, True) for text in texts]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path))


def test_a_judge_scores_by_the_share_of_the_others_that_is_beaten() -> None:
    judge = Longer()
    found = score_by_judge(judge, rows("p", "q"), [answers("aaa", " b ", "cc"), answers("a", "b", "cc")])
    assert found == [[1.0, 0.0, 0.5], [0.25, 0.25, 1.0]]
    assert len(judge.seen) == 6
    assert judge.seen[0] == ("p", "aaa", "b"), "the last turn, and no blanks around an answer"


def test_what_a_judge_said_is_cached() -> None:
    asked = rows("p"), [answers("aaa", "b", "cc")]
    score_by_judge(Longer(), *asked)
    judge = Longer()
    score_by_judge(judge, *asked)
    assert judge.seen == []


def test_rewards_are_added_up_and_read_the_columns_of_the_prompts_row() -> None:
    cfg = OmegaConf.create({"verifiable": {"weight": 2.0}, "length": {"weight": 1.0, "words": 1, "slack": 1}})
    rewards = build_rewards(cfg, {"answer"}, [0])
    given = rows("1+1?", "2+2?", answer=["2", "4"])
    assert score_by_reward(rewards, given, [answers("2", "it is 2"), answers("2", " 4 ")]) == [[3.0, 2.0], [1.0, 3.0]]

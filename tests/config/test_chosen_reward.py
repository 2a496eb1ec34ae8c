"""Which datasets choose a reward: the embedded ones and those with solutions; foreign data has none."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "rewards"),
    [
        ([], {"conciseness"}),
        (["dataset=concise"], {"conciseness"}),
        (["dataset=counted"], {"count"}),
        (["dataset=gsm8k"], {"verifiable"}),
        (["dataset=local", "dataset.path=pairs.jsonl"], set()),
        (["dataset=ultrafeedback"], set()),
        (["dataset=local", "dataset.path=pairs.jsonl", "reward=length"], {"length"}),
        (["dataset=counted", "reward=[length,format]"], {"length", "format"}),
        (["reward=none"], set()),
    ],
)
def test_a_reward_is_the_datasets_or_the_users(compose_config: Any, words: list[str], rewards: set[str]) -> None:
    assert set(compose_config(*words).reward) == rewards

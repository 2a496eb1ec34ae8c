"""Scores sampled answers, by the group ``reward`` or by a judge that compares them with each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

from alignzoo.config.generation import choose_scorer
from alignzoo.config.secrets import hide_secrets
from alignzoo.evaluate.judge import build_configured_judges
from alignzoo.evaluate.rewards import Rewards, build_rewards
from alignzoo.evaluate.verdicts import judge_pairs

if TYPE_CHECKING:
    from datasets import Dataset

    from alignzoo.evaluate.completions import Completion
    from alignzoo.generate.inputs import GenerationInputs
    from alignzoo.plugin.judge import Judge

#: Takes rows of prompts and the answers to each, as many to all; returns a score for each answer.
Scorer = Callable[["Dataset", Sequence[Sequence["Completion"]]], list[list[float]]]


def build_scorer(inputs: GenerationInputs) -> Scorer:
    """Return what scores the answers.

    Raises:
        UserError: no such reward or judge, a wrong key of one, or a column that the dataset lacks.
    """
    cfg = inputs.cfg
    if choose_scorer(cfg) == "reward":
        columns = set(json.loads(inputs.prompts[0]["extra"]))
        return partial(score_by_reward, build_rewards(cfg.reward, columns, inputs.eos_ids))
    return partial(score_by_judge, build_configured_judges(cfg.judge)[0])


def describe_scorer(inputs: GenerationInputs) -> dict[str, Any]:
    """Return what scores the answers, by name, with its keys."""
    name = choose_scorer(inputs.cfg)
    return {"scored_by": name, name: hide_secrets(inputs.cfg)[name]}


def name_scorer(inputs: GenerationInputs) -> str:
    """Return what scores the answers, as it is typed: ``reward=length``."""
    name = choose_scorer(inputs.cfg)
    return f"reward={','.join(map(str, inputs.cfg.reward))}" if name == "reward" else f"judge={inputs.cfg.judge.name}"


def score_by_reward(rewards: Rewards, rows: Dataset, answers: Sequence[Sequence[Completion]]) -> list[list[float]]:
    """Return the weighted sum of the rewards of each answer."""
    count = len(answers[0])
    repeated = rows.select([place for place in range(len(rows)) for _ in range(count)])
    flat = [replace(answer, text=answer.text.strip()) for some in answers for answer in some]
    scores = rewards.score(repeated, flat)
    return [scores[first : first + count] for first in range(0, len(scores), count)]


def score_by_judge(judge: Judge, rows: Dataset, answers: Sequence[Sequence[Completion]]) -> list[list[float]]:
    """Return the share of the other answers to its prompt that each answer beats, ties half.

    Raises:
        JudgeStopped: the judge could not go on; its verdicts so far are cached.
    """
    prompts = [json.loads(prompt)[-1]["content"] for prompt in rows["prompt"]]
    count = len(answers[0])
    pairs = [(row, one, other) for row in range(len(rows)) for one, other in combinations(range(count), 2)]
    first, second = ([answers[pair[0]][pair[side]].text.strip() for pair in pairs] for side in (1, 2))
    verdicts = judge_pairs(judge, [prompts[row] for row, _, _ in pairs], first, second)
    scores = [[0.0] * count for _ in answers]
    for (row, one, other), verdict in zip(pairs, verdicts, strict=True):
        scores[row][one] += verdict / (count - 1)
        scores[row][other] += (1 - verdict) / (count - 1)
    return scores

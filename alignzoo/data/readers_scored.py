"""Reads one row of the layouts that score or rank answers, as :mod:`alignzoo.data.readers` reads the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignzoo.data.messages import BadRow, read_json
from alignzoo.data.readers import Row, transcript

#: What is read of an answer, and fields of its score.
ULTRAFEEDBACK = frozenset(("response", "overall_score", "score"))
NECTAR = frozenset(("answer", "rank"))


def _pair_best_with_worst(
    prompt: Any, scored: Iterable[tuple[Any, Any]], name: str, ranks: bool = False
) -> list[dict[str, Any]]:
    """Return the pair of the highest and the lowest score (of ties, the first); its margin, too, unless of ranks."""
    answers = [(answer, _read_score(score, name)) for answer, score in scored]
    if len(answers) < 2:
        raise BadRow(f"{name} has {len(answers)} answers; a pair needs two")
    best, worst = max(answers, key=lambda item: item[1]), min(answers, key=lambda item: item[1])
    if best[1] == worst[1]:
        raise BadRow(f"{name}: all answers have the same score")
    margin = {} if ranks else {"margin": best[1] - worst[1]}
    return [{"prompt": prompt, "chosen": best[0], "rejected": worst[0], **margin}]


def _read_score(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, bool) or not math.isfinite(number):
        raise BadRow(f"{name} has the score {value!r}; it must be a number")
    return number


def _read_list(row: Row, name: str) -> Sequence[Any]:
    items = row[name]
    if isinstance(items, str):  # a cell of a CSV file
        items = read_json(items, name)
    if not isinstance(items, list):
        raise BadRow(f"{name} is {'null' if items is None else type(items).__name__}; it must be a list")
    return items


def ultrafeedback(row: Row) -> list[dict[str, Any]]:
    """Openbmb's UltraFeedback: ``completions`` with ``overall_score``."""
    items = [item for item in _read_list(row, "completions") if isinstance(item, Mapping)]
    scored = ((item.get("response"), item.get("overall_score", item.get("score"))) for item in items)
    return _pair_best_with_worst(row["instruction"], scored, "completions")


def nectar(row: Row) -> list[dict[str, Any]]:
    """Nectar: ``answers`` with ``rank``, 1 being best; its prompt is a transcript of one question."""
    items = [item for item in _read_list(row, "answers") if isinstance(item, Mapping)]
    scored = ((item.get("answer"), -_read_score(item.get("rank"), "answers")) for item in items)
    prompt = row["prompt"]
    if isinstance(prompt, str) and prompt.lstrip().startswith("Human:"):
        prompt = [turn for turn in transcript("\n\n" + prompt.strip(), "prompt") if turn["content"]]
    return _pair_best_with_worst(prompt, scored, "answers", ranks=True)


def scores(row: Row, ranks: bool = False) -> list[dict[str, Any]]:
    """Parallel lists ``responses`` and ``scores``, which may be ``ranks``."""
    answers, scores = _read_list(row, "responses"), _read_list(row, "scores")
    if len(answers) != len(scores):
        raise BadRow(f"responses has {len(answers)} items and scores {len(scores)}")
    return _pair_best_with_worst(row["prompt"], zip(answers, scores, strict=True), "scores", ranks)


def ranks(row: Row) -> list[dict[str, Any]]:
    """Parallel lists ``responses`` and ``ranks``, 1 being best."""
    ranks = [-_read_score(rank, "ranks") for rank in _read_list(row, "ranks")]
    return scores({"prompt": row["prompt"], "responses": row["responses"], "scores": ranks}, ranks=True)


def shp(row: Row) -> list[dict[str, Any]]:
    """Stanford Human Preferences: ``labels`` is 1 where A is preferred."""
    if row["labels"] not in (0, 1):
        raise BadRow(f"labels is {row['labels']!r}; it must be 0 or 1")
    answers = (row["human_ref_A"], row["human_ref_B"])
    chosen, rejected = answers if row["labels"] == 1 else answers[::-1]
    return [{"prompt": row["history"], "chosen": chosen, "rejected": rejected}]


def strength(row: Row) -> list[dict[str, Any]]:
    """HelpSteer's preferences: a negative strength prefers the first response, a positive one the second."""
    strength = _read_score(row["preference_strength"], "preference_strength")
    if strength == 0:
        raise BadRow("preference_strength is 0: neither answer is preferred")
    answers = (row["response_1"], row["response_2"])
    chosen, rejected = answers if strength < 0 else answers[::-1]
    return [{"prompt": row["prompt"], "chosen": chosen, "rejected": rejected, "margin": abs(strength)}]


def scored(row: Row) -> list[dict[str, Any]]:
    """Single answers, each with a score; several to a prompt make pairs."""
    return [{"prompt": row["prompt"], "completion": row["completion"], "score": _read_score(row["score"], "score")}]


def helpsteer(row: Row) -> list[dict[str, Any]]:
    """HelpSteer's ratings: one answer a row, scored by its helpfulness."""
    score = _read_score(row["helpfulness"], "helpfulness")
    return [{"prompt": row["prompt"], "completion": row["response"], "score": score}]

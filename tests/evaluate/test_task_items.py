"""The numbers of benchmark tasks: their means, intervals and paired changes, from the lines of ``tasks.jsonl``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from alignzoo.evaluate.intervals import Estimate, wilson
from alignzoo.evaluate.simultaneous import compare_two
from alignzoo.evaluate.task_items import format_change, format_score, list_metrics, summarise_tasks
from alignzoo.runs.contents import parse_items


def item(task: str, place: int, before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
    sides = {"before": {"scores": before, "answer": None}, "after": {"scores": after, "answer": None}}
    return {"task": task, "part": task, "item": place, "hash": f"{place:x}", **sides}


def test_each_metric_is_a_mean_with_its_paired_change() -> None:
    right = [1, 1, 1, 0, 0, 1, 1, 0, 1, 1], [1, 0, 1, 0, 0, 0, 1, 0, 0, 1]
    lines = [item("sums", place, {"acc": b}, {"acc": a}) for place, (b, a) in enumerate(zip(*right, strict=True))]
    found = summarise_tasks(lines)["sums: acc"]
    assert (found["items"], found["share"], found["before"], found["after"]) == (10, True, 0.7, 0.4)
    assert found["interval"] == list(wilson(4, 10))
    change = compare_two(np.array(right[1], float), np.array(right[0], float), 1.0).subtract(0, 1)
    assert found["change"] == [change.value, change.low, change.high]
    assert found["change"][0] == pytest.approx(-0.3)


def test_scores_beyond_one_are_no_share() -> None:
    lines = [item("long", place, {"words": 2.0}, {"words": 3.0 + place}) for place in range(8)]
    found = summarise_tasks(lines)["long: words"]
    assert not found["share"]
    assert found["change"][0] == 4.5
    low, high = found["interval"]
    assert low < 6.5 < high


def test_an_item_without_a_metric_on_one_side_does_not_count_for_it() -> None:
    lines = [item("a", 0, {"x": 1.0, "y": 0.0}, {"x": 1.0}), item("a", 1, {"x": 0.0}, {"x": 1.0}), item("b", 0, {}, {})]
    assert [one.label for one in list_metrics(lines)] == ["a: x"]
    assert summarise_tasks(lines)["a: x"]["items"] == 2


def test_how_numbers_and_changes_are_written() -> None:
    assert format_score(0.4125, True) == "41.2%"
    assert format_score(4.0, False) == "4.000"
    assert format_change(Estimate(-0.031, -0.06, -0.002), True) == "-3.1 (-6.0 to -0.2)"
    assert format_change(Estimate(0.5, -1.0, 2.0), False) == "+0.500 (-1.000 to +2.000)"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"item": "3"}, "line 2: it is not an item of a task"),
        ({"hash": None}, "line 2: it is not an item of a task"),
        ({"after": {"scores": {"acc": "high"}}}, "line 2: it has no scores after"),
        ({"before": {}}, "line 2: it has no scores before"),
    ],
)
def test_damaged_lines_are_named(damage: dict[str, Any], told: str) -> None:
    good = item("sums", 0, {"acc": 1.0}, {"acc": 1.0})
    text = "\n".join(map(json.dumps, [good, {**good, **damage}]))
    with pytest.raises(ValueError, match=told):
        parse_items(text)
    assert parse_items(json.dumps(good)) == [good]

"""How far two judges agree: kappa by hand, its interval, and what is said of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from alignzoo.evaluate.agreement import describe_agreement, estimate_kappa, is_chance, summarise_agreement
from alignzoo.evaluate.metrics import summarise

Table = Mapping[tuple[float | None, float | None], int]

#: (first, second): how often. 35 of 50 are equal; by chance (25 * 30 + 25 * 20) / 50 ** 2 = 50 %.
COHEN: Table = {(1.0, 1.0): 20, (1.0, 0.0): 5, (0.0, 1.0): 10, (0.0, 0.0): 15}


def judged(table: Table) -> list[dict[str, Any]]:
    """Return a line for each pair of verdicts, each on a prompt of its own."""
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    return [
        {"id": f"p{n}", "prompt": "?", "after": {"win": a, "win_second": b}, "before": {}}
        for n, (a, b) in enumerate(pairs)
    ]


def summary(table: Table) -> dict[str, Any]:
    found = summarise_agreement(judged(table))
    assert found is not None
    return found


def test_kappa_by_hand() -> None:
    found = summary(COHEN)
    assert found["kappa"] == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert {key: found[key] for key in ("equal", "verdicts", "prompts", "first_higher", "second_higher")} == {
        "equal": 35,
        "verdicts": 50,
        "prompts": 50,
        "first_higher": 5,
        "second_higher": 10,
    }


def test_ties_are_a_verdict_of_their_own() -> None:
    """Equal: 4 + 3 + 2 of 12; by chance (5 * 6 + 4 * 3 + 3 * 3) / 144."""
    table: Table = {(1.0, 1.0): 4, (0.5, 0.5): 3, (0.0, 0.0): 2, (1.0, 0.0): 1, (0.5, 1.0): 1, (0.0, 1.0): 1}
    chance = (5 * 6 + 4 * 3 + 3 * 3) / 144
    assert summary(table)["kappa"] == pytest.approx((9 / 12 - chance) / (1 - chance))


def test_its_interval_is_near_the_large_samples() -> None:
    """Cohen's own standard error, sqrt(p (1 - p) / (n (1 - e) ** 2)), is 0.130 for 50 prompts."""
    found = summary(COHEN)
    half = 1.96 * math.sqrt(0.7 * 0.3 / (50 * 0.25))
    assert (found["low"], found["high"]) == pytest.approx((0.4 - half, 0.4 + half), abs=0.04)


@pytest.mark.parametrize("apart", [False, True])
def test_a_few_equal_prompts_are_no_certainty(apart: bool) -> None:
    first = np.array([1.0, 1, 0, 0])
    found = estimate_kappa(first, 1 - first if apart else first, np.arange(4))
    assert found.value == (-1.0 if apart else 1.0)
    assert found.high - found.low > 0.5
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_a_prompt_counts_once_in_several_runs() -> None:
    once = judged(COHEN)
    many = summarise_agreement(once * 4)
    single = summary(COHEN)
    assert many is not None
    assert (many["verdicts"], many["prompts"]) == (200, 50)
    assert (many["kappa"], many["low"], many["high"]) == pytest.approx((single["kappa"], single["low"], single["high"]))
    assert (many["first_higher"], many["second_higher"]) == (5, 10)


def test_only_what_both_judged_counts() -> None:
    assert summary({**COHEN, (1.0, None): 9, (None, 0.0): 9})["verdicts"] == 50
    assert summarise_agreement(judged({(1.0, None): 3})) is None
    assert summarise_agreement([{"id": "0", "prompt": "?", "after": {"win": 1.0}}]) is None, "of an older run"


def test_one_verdict_for_all_has_no_kappa() -> None:
    found = summary({(1.0, 1.0): 9})
    assert (found["kappa"], found["low"], found["high"]) == (None, None, None)
    assert is_chance(found)
    assert list(describe_agreement(found)) == [
        "The two judges agree on 9 of 9 verdicts; both gave all of them the same, so that Cohen's kappa is undefined."
    ]


@pytest.mark.parametrize(
    ("table", "chance", "said"),
    [
        (COHEN, False, r"^The two judges agree on 35 of 50 verdicts: Cohen's kappa 0\.40 \(0\.1\d to 0\.6\d\)\.$"),
        ({(1.0, 1.0): 9, (1.0, 0.0): 9, (0.0, 1.0): 8, (0.0, 0.0): 9}, True, "may be no more than two judges would"),
        ({(1.0, 0.0): 20, (0.0, 1.0): 20}, True, "They disagree more than two judges would who decide by chance"),
    ],
    ids=["agree", "chance", "contradict"],
)
def test_what_is_said(table: Table, chance: bool, said: str) -> None:
    found = summary(table)
    (sentence,) = describe_agreement(found)
    assert re.search(said, sentence)
    assert is_chance(found) is chance


@pytest.mark.parametrize(("others", "told"), [(5, False), (6, True)])
def test_a_judge_that_prefers_the_run_more_often_is_told(others: int, told: bool) -> None:
    """Five to none come by chance in one of sixteen cases, six to none in one of 32."""
    sentences = list(describe_agreement(summary({(1.0, 1.0): 10, (0.0, 0.0): 10, (0.0, 1.0): others})))
    assert (len(sentences) == 2) is told
    if told:
        assert sentences[1].startswith("The second judge prefers the run more than the first does on 6 prompts ")


def test_it_stands_in_the_result_where_two_have_judged() -> None:
    side = {"text": "one.", "tokens": 1, "ended": True, "kl": 0.0, "kl_tokens": 1}
    line = {"id": "0", "prompt": "?", "chosen_tokens": None, "rejected_tokens": None}
    lines: list[dict[str, Any]] = [{**line, "before": {**side, "win": 0.5}, "after": {**side, "win": 1.0}}]
    assert "agreement" not in summarise(lines)
    lines[0]["before"]["win_second"], lines[0]["after"]["win_second"] = 0.5, 0.0
    found = summarise(lines)
    assert found["agreement"] == summarise_agreement(lines)
    assert found["after"]["win_rate_second"] == 0.0

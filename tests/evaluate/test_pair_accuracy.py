"""How often a model prefers the chosen completion: by subset, and weighted as RewardBench does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alignzoo.evaluate.intervals import wilson
from alignzoo.evaluate.pair_accuracy import SECTIONS, combine, summarise_pairs, weigh_sections


def scored(right: int, of: int) -> list[dict[str, Any]]:
    """Return the lines of a reward model that tells so many pairs apart."""
    sides = [{"chosen_score": 1.0 if place < right else -1.0, "rejected_score": 0.0} for place in range(of)]
    return [{"id": str(n), "prompt": "?", "before": side, "after": side} for n, side in enumerate(sides)]


def likely(*margins: float) -> list[dict[str, Any]]:
    """Return the lines of a policy whose chosen completions gained so many nats more than the rejected ones."""
    before = {"chosen": -10.0, "rejected": -9.0}
    sizes = {"chosen_tokens": 10, "rejected_tokens": 3}
    return [{**sizes, "before": before, "after": {"chosen": -10.0 + m, "rejected": -9.0}} for m in margins]


def test_a_reward_model_is_asked_for_its_scores_and_a_policy_for_its_implicit_reward() -> None:
    assert summarise_pairs(scored(3, 4), ["a"] * 4, "reward_model")["all"] == {
        "reward_accuracy": [0.75, *wilson(3, 4)],
    }
    found = summarise_pairs(likely(0.5, 2.0, -1.0, 0.0), ["a"] * 4, "policy")
    assert found["all"]["preference_accuracy"] == [0.625, *wilson(2.5, 4)], "a tie counts half"
    assert found["all"]["accuracy_sum"][0] == 0.25
    assert found["all"]["accuracy_mean"][0] == 1.0
    assert "subsets" not in found


def test_each_subset_has_its_own_accuracy_and_the_mean_weighs_them_alike() -> None:
    lines, names = [*scored(9, 10), *scored(10, 40)], ["easy"] * 10 + ["hard"] * 40
    found = summarise_pairs(lines, names, "reward_model")
    assert found["subsets"]["easy"]["pairs"] == 10
    assert found["subsets"]["easy"]["reward_accuracy"] == pytest.approx([0.9, *wilson(9, 10)])
    assert found["all"]["reward_accuracy"][0] == 19 / 50
    assert found["mean"]["reward_accuracy"][0] == pytest.approx((0.9 + 0.25) / 2)
    assert "sections" not in found, "these are not RewardBench's"


def test_rewardbenchs_sections_weigh_math_as_all_code() -> None:
    counts = {"math-prm": 447, **dict.fromkeys(SECTIONS["Reasoning"][1:], 164), "mt-bench-easy": 28}
    weights = weigh_sections(counts)
    assert weights["Reasoning"]["math-prm"] == 984 == 6 * 164
    assert weights["Chat"] == {"mt-bench-easy": 28}
    lines = [*scored(10, 20), *scored(10, 10), *scored(8, 10)]
    names = ["math-prm"] * 20 + ["hep-go"] * 10 + ["mt-bench-easy"] * 10
    found = summarise_pairs(lines, names, "reward_model")
    assert found["sections"]["Reasoning"]["reward_accuracy"][0] == pytest.approx(0.75)
    assert found["score"]["reward_accuracy"][0] == pytest.approx((0.75 + 0.8) / 2)
    assert weigh_sections({**counts, "mine": 3}) == {}


def test_the_interval_of_a_weighted_mean_has_width_where_all_are_told_apart() -> None:
    parts = {"a": np.ones(10), "b": np.ones(30)}
    one, both = combine(parts, {"a": 1.0}), combine(parts, {"a": 1.0, "b": 1.0})
    assert (one.value, one.low, one.high) == pytest.approx((1.0, *wilson(10, 10)))
    assert one.low < both.low < both.high == 1.0


@pytest.mark.parametrize(
    ("shares", "counts"),
    [
        ((0.5, 1.0), (10, 1000)),
        ((0.9, 0.6, 0.75), (28, 100, 447)),
        ((0.97, 0.98, 0.95, 0.99), (40, 37, 95, 164)),
        ((0.5,) * 6, (37, 100, 134, 92, 47, 46)),
    ],
)
def test_weighted_intervals_hold_the_truth_in_95_percent(shares: tuple[float, ...], counts: tuple[int, ...]) -> None:
    """2,000 draws: a true coverage of 95 % gives fewer than 93.5 % once in a thousand such tests."""
    rng = np.random.default_rng(0)
    drawn = [rng.binomial(1, share, (2000, count)).astype(float) for share, count in zip(shares, counts, strict=True)]
    names = [str(place) for place in range(len(counts))]
    truth, held = float(np.mean(shares)), 0
    for columns in zip(*drawn, strict=True):
        found = combine(dict(zip(names, columns, strict=True)), dict.fromkeys(names, 1.0))
        held += found.low <= truth <= found.high
    assert held / 2000 >= 0.935

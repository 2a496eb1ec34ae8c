"""The time that measuring a held-out row takes, from the passes of a plan."""

from __future__ import annotations

import pytest

from alignzoo.cli.plan import Machine, plan
from alignzoo.plan.phases import Passes
from alignzoo.plan.seconds import EFFICIENCY, Rate, estimate_row_time, make_rate

WORDS = ("method=dpo", "model=tiny", "strategy=single", "strategy.device=cpu", "train.max_length=64")
NO_READING = Rate(1e12, 1e30, measured=False)


def passes(*words: str) -> Passes:
    return plan([*WORDS, *words], Machine(None, None, 1.0), False)[0].passes("none", 1)


def test_a_row_is_two_of_a_pair_two_answers_and_the_sample_under_two_models() -> None:
    found = passes("evaluate.batch_size=4", "evaluate.max_new_tokens=16")
    assert found.scoring
    assert found.generating
    assert found.comparing
    flops = 2 * (found.scoring.flops + found.generating.flops + found.comparing.flops) / 4
    assert estimate_row_time(found, NO_READING) == pytest.approx(flops / EFFICIENCY / 1e12)


def test_it_does_not_depend_on_the_batch_where_reading_is_free() -> None:
    times = [estimate_row_time(passes(f"evaluate.batch_size={size}"), NO_READING) for size in (2, 8)]
    assert times[0] == pytest.approx(times[1], rel=0.01)


def test_where_reading_is_slow_a_batch_reads_the_weights_once_a_token() -> None:
    """Of 16 rows scored at once, 64 are answered at once."""
    found = passes("evaluate.batch_size=16", "evaluate.max_new_tokens=16")
    slow = Rate(1e30, 1e6, measured=False)
    assert estimate_row_time(found, slow) == pytest.approx(16 * found.skeleton.weight_bytes / 1e6 / 64)


def test_nothing_is_measured_where_nothing_is_held_out() -> None:
    assert estimate_row_time(passes("evaluate.enabled=false"), make_rate(1.0)) == 0


def test_a_reward_model_answers_nothing() -> None:
    found = passes("method=reward", "evaluate.batch_size=4")
    assert found.scoring
    assert found.work.generate is None
    assert estimate_row_time(found, make_rate(1.0)) == pytest.approx(2 * found.scoring.flops / 4 / EFFICIENCY / 1e12)

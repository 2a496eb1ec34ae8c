"""What a study will be able to show: by the boards' own comparison, and as it turns out."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import make_settings

from alignzoo.study.findings import compare_methods
from alignzoo.study.outlook import MethodCost, describe_outlook, make_outlook, refuse_blind
from alignzoo.study.power import compute_smallest, find_needed_prompts
from alignzoo.study.protocol import Protocol
from alignzoo.system.errors import UserError


def test_more_prompts_and_fewer_methods_show_smaller_differences() -> None:
    two, six = make_settings(seeds=5), make_settings(seeds=5, methods=tuple("abcdef"))
    sizes = [compute_smallest(two, prompts) or 0 for prompts in (100, 400, 1600)]
    assert sizes == sorted(sizes, reverse=True)
    assert (compute_smallest(six, 400) or 0) > sizes[1]
    assert compute_smallest(two, 4) is None


def test_the_announced_difference_is_seen_in_about_80_percent() -> None:
    settings = make_settings(number="reward", seeds=5, assume={"prompts": 1.0, "seeds": 0.0})
    size = compute_smallest(settings, 200)
    assert size is not None
    rng, seen = np.random.default_rng(0), 0
    for _ in range(200):
        first, second = rng.normal(0, 1 / np.sqrt(2), (2, 1, 200))
        values = {"dpo": first.repeat(5, 0), "simpo": second.repeat(5, 0) + size}
        found = compare_methods(values, [str(one) for one in range(200)], settings)
        seen += found.methods[0].verdict == "better"
    assert 140 <= seen <= 180


def test_the_needed_prompts_show_what_matters() -> None:
    settings = make_settings(seeds=5, difference=8.0)
    needed = find_needed_prompts(settings)
    assert needed is not None
    assert compute_smallest(settings, needed) == pytest.approx(0.08, abs=0.008)


def protocol(**changes: object) -> Protocol:
    return Protocol(make_settings(**changes), {"dpo": [], "simpo": []}, {"dpo": [], "simpo": []}, 0, [])


def test_a_study_that_cannot_see_what_matters_is_refused_in_one_line() -> None:
    outlook = make_outlook(protocol(), {}, 40)
    assert outlook.is_blind
    with pytest.raises(
        UserError, match=r"cannot see a difference of 5\.0 points .*evaluate\.rows=\d+ would"
    ) as refused:
        refuse_blind(outlook)
    assert "\n" not in str(refused.value)
    refuse_blind(make_outlook(protocol(underpowered="run"), {}, 40))
    refuse_blind(make_outlook(protocol(difference=40.0), {}, 200))


def test_the_outlook_counts_runs_and_comparisons() -> None:
    lines = "\n".join(describe_outlook(make_outlook(protocol(), {}, 200)))
    assert "2. tune: 8 runs" in lines
    assert "4. test: 6 runs" in lines
    assert "corrected for 1 comparison;" in lines


def test_the_time_counts_what_each_phase_measures() -> None:
    """Tuning measures validation rows, the test its prompts: 4 trials and 3 seeds of two methods."""
    each = MethodCost(steps=10, tokens=640, step_seconds=3.0, row_seconds=2.0, memory=1.0, fits=True)
    outlook = make_outlook(protocol(), {"dpo": each, "simpo": each}, prompts=45, validation=15)
    lines = "\n".join(describe_outlook(outlook))
    assert f"2. tune: 8 runs, 4 quasi-random trials for each method, about {2 * 4 * (30 + 30) // 60} min" in lines
    assert f"4. test: 6 runs, 3 fresh seeds for each winner, about {2 * 3 * (30 + 90) // 60} min" in lines
    assert "dpo: 10 steps, 640 tokens, 3 s a step, 2 s a measured row, 1.00 GiB" in lines

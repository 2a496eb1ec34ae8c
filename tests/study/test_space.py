"""Where a study looks: ranges of the YAML, the learning rate always, the same number of points for all."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from made_up import make_settings
from omegaconf import OmegaConf

from alignzoo.study.space import Knob, draw_trials, read_space
from alignzoo.system.errors import UserError


def space(**method: Any) -> list[Knob]:
    cfg = OmegaConf.create({"method": {"name": "dpo", "learning_rate": 1e-5, **method}})
    return read_space(cfg, make_settings())


def test_the_learning_rate_is_tuned_around_the_methods_own() -> None:
    assert space() == [Knob("learning_rate", 0.2 * 1e-5, 5 * 1e-5, False)]


def test_a_beta_without_a_published_range_is_tuned_around_its_own_value() -> None:
    assert space(beta=0.1)[1] == Knob("beta", pytest.approx(0.02), pytest.approx(0.5), False)


def test_a_block_search_names_the_ranges() -> None:
    found = space(beta=0.1, gamma=1.0, search={"beta": [0.01, 0.1], "gamma": [0.0, 2.0]})[1:]
    assert found == [Knob("beta", 0.01, 0.1, True), Knob("gamma", 0.0, 2.0, True)]
    assert [knob.is_logarithmic for knob in found] == [True, False]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"beta": [0.1, 0.01]}, "the lower one first"),
        ({"beta": [-1.0, 0.1]}, "at least 0"),
        ({"beta": 0.1}, "two numbers"),
        ({"tau": [0.1, 1.0]}, "method.tau is not a number"),
        ({"learning_rate": [1e-6, 1e-5]}, "study.rates"),
    ],
)
def test_a_range_that_cannot_be_is_refused_in_one_line(search: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        space(beta=0.1, search=search)
    assert "\n" not in str(refused.value)


def test_all_ranges_are_widened_alike() -> None:
    cfg = OmegaConf.create(
        {"method": {"name": "dpo", "learning_rate": 1e-5, "beta": 0.1, "search": {"beta": [0.01, 0.1]}}}
    )
    rate, beta = read_space(cfg, make_settings(widen=3.0))
    assert (rate.low, rate.high) == (pytest.approx(0.2e-5 / 3), pytest.approx(15e-5))
    assert (beta.low, beta.high) == (pytest.approx(0.01 / 3), pytest.approx(0.3))


def test_trials_are_spread_evenly_and_fixed_by_the_seed() -> None:
    knobs = [Knob("learning_rate", 1e-6, 1e-4, False), Knob("beta", 0.0, 1.0, True)]
    points = draw_trials(knobs, 16, seed=0)
    assert points == draw_trials(knobs, 16, seed=0) != draw_trials(knobs, 16, seed=1)
    for knob in knobs:  # a quarter of the points in each quarter of the range, as a Sobol sequence has it
        places = [knob.place(point[knob.key]) for point in points]
        assert np.histogram(places, 4, (0, 1))[0].tolist() == [4, 4, 4, 4]


def test_more_trials_begin_with_the_same_ones() -> None:
    knobs = [Knob("learning_rate", 1e-6, 1e-4, False)]
    assert draw_trials(knobs, 8, 0)[:4] == draw_trials(knobs, 4, 0)


def test_an_optimum_on_an_edge_is_found() -> None:
    knob = Knob("beta", 0.01, 1.0, True)
    assert [knob.find_edge(value) for value in (0.012, 0.1, 0.9)] == ["low", "", "high"]
    assert knob.place(0.1) == pytest.approx(0.5)
    assert math.isclose(knob.pick(0.5), 0.1)

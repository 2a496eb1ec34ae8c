"""The pick: on validation rows alone, of what did not collapse; and what is reported of it is not too good."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import make_settings

from alignzoo.runs.folder import Run
from alignzoo.runs.sweep_status import State
from alignzoo.study.members import Member
from alignzoo.study.protocol import Protocol
from alignzoo.study.selection import (
    Trial,
    count_faults,
    find_edges,
    pick_winner,
    read_trials,
    read_winners,
    write_winners,
)
from alignzoo.study.space import Knob


def trial(place: int, score: float | None, out: str = "") -> Trial:
    return Trial(Member("dpo", place, 0, State.DONE, "", None), {"beta": 0.1}, score, out)


def test_the_best_of_those_that_can_win_is_picked() -> None:
    found = [trial(0, 0.6), trial(1, 0.9, "collapsed: completions are empty"), trial(2, 0.8), trial(3, None, "failed")]
    best = pick_winner(found, "accuracy_sum")
    assert best is found[2]
    assert pick_winner(found, "empty") is found[0]  # better low
    assert pick_winner(found[1:2], "accuracy_sum") is None


def test_of_equal_trials_the_first_is_picked() -> None:
    found = [trial(0, 0.8), trial(1, 0.8)]
    assert pick_winner(found, "accuracy_sum") is found[0]


@pytest.fixture
def protocol() -> Protocol:
    values = [{"beta": 0.011}, {"beta": 0.1}, {"beta": 0.5}]
    settings = make_settings(methods=("dpo",), trials=3, guardrails={"kl": {"most": 0.5}})
    return Protocol(settings, {"dpo": [Knob("beta", 0.01, 1.0, True)]}, {"dpo": values}, 0, [])


def run(folder: Path, **after: Any) -> Run:
    before = {"accuracy_sum": 0.5, "kl": 0.0, "empty": 0.0, "ended": 1.0, "distinct_3": 0.9}
    after = {**before, **after}
    folder.mkdir(parents=True)
    intervals = {key: [0.0, 1.0] for key in after}
    measured = {"before": before, "after": after, "intervals": intervals}
    empty = {"before": {}, "after": {}, "intervals": {}}
    result = {"method": "dpo", **empty, "validation": measured, "cost": {"total_seconds": 7}}
    (folder / "result.json").write_text(json.dumps(result))
    return Run(folder)


def test_trials_that_collapse_or_break_a_guardrail_cannot_win(tmp_path: Path, protocol: Protocol) -> None:
    changes = [{"accuracy_sum": 0.7}, {"accuracy_sum": 0.9, "empty": 0.8}, {"accuracy_sum": 0.8, "kl": 0.6}]
    members = [
        Member("dpo", place, 0, State.DONE, "", run(tmp_path / str(place), **change))
        for place, change in enumerate(changes)
    ]
    found = read_trials(protocol, members)["dpo"]
    assert [one.out.partition(":")[0] for one in found] == ["", "collapsed", "guardrail"]
    assert count_faults(found) == {"collapsed": 1, "guardrail": 1}
    assert [one.seconds for one in found] == [7, 7, 7]
    assert write_winners(tmp_path, {"dpo": found}, "accuracy_sum") == {"dpo": 0} == read_winners(tmp_path)


def test_a_failed_trial_says_why(protocol: Protocol) -> None:
    members = [Member("dpo", place, 0, State.FAILED, "the loss is not finite", None) for place in range(3)]
    found = read_trials(protocol, members)["dpo"]
    assert {one.out for one in found} == {"failed: the loss is not finite"}
    assert pick_winner(found, "accuracy_sum") is None


def test_an_optimum_on_an_edge_is_told(protocol: Protocol) -> None:
    assert find_edges(protocol, "dpo", 0) == {"beta": "low"}
    assert find_edges(protocol, "dpo", 1) == {}


@pytest.mark.parametrize("count", [8, 80])
def test_the_winner_is_reported_without_bias_however_many_trials_there_were(count: int) -> None:
    """On validation the winner looks better than it is; on other prompts and fresh seeds it does not."""
    rng, prompts, studies = np.random.default_rng(count), 200, 400
    on_validation, on_test = [], []
    for _ in range(studies):
        true = np.clip(0.6 + rng.normal(0, 0.02, count), 0, 1)
        scores = rng.binomial(prompts, true) / prompts
        winner = pick_winner([trial(place, score) for place, score in enumerate(scores.tolist())], "accuracy_sum")
        assert winner is not None
        assert winner.score is not None
        place = winner.member.trial
        on_validation.append(winner.score - true[place])
        on_test.append(rng.binomial(3 * prompts, true[place]) / (3 * prompts) - true[place])
    assert np.mean(on_validation) > 0.02  # the winner's curse
    assert abs(np.mean(on_test)) < 0.005  # half a point

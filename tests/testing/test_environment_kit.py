"""Environments that break the contract, each found by the check that is there for it, with what mends it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from alignzoo.testing import NotConforming, environments

#: A lift of three floors, whose goal is the row's.
CODE = '''
import random
from alignzoo import Environment, hookimpl

class Lift(Environment):
    """A lift."""
    name = "lift"
    calls = 0
    def __init__(self, moves):
        self.moves = moves
    def reset(self, goal, **columns):
        self.goal, self.floor, self.moved = goal, 0, 0
        return " go"
    def up(self, floors: int) -> str:
        """
        Go up.

        Args:
            floors: How many.
        """
        if self.over:
            return "over"
        self.moved += 1
        self.floor = min(3, self.floor + abs(floors) % 3)
        return str(self.floor)
    @property
    def reward(self):
        return float(self.floor == self.goal)
    @property
    def success(self):
        return self.floor == self.goal
    @property
    def over(self):
        return self.moved >= self.moves

@hookimpl
def alignzoo_environments():
    return [Lift]

@hookimpl
def alignzoo_config_packages():
    return ["fake_lift.conf"]
'''

CHECKS = {
    "options": lambda: environments.find_factory("lift"),
    "schemas": lambda: environments.check_schemas("lift"),
    "repetition": lambda: environments.check_repetition("lift", ROWS),
    "end": lambda: environments.check_end("lift", ROWS),
}

ROWS = [{"goal": 2}, {"goal": 3}]

OPTION = {"environment/lift.yaml": "name: lift\nmoves: 3\n"}


def test_a_good_one_passes(fake_package: Callable[..., None]) -> None:
    fake_package("fake_lift", CODE, OPTION)
    for check in CHECKS.values():
        check()


@pytest.mark.parametrize(
    ("check", "old", "new", "reason"),
    [
        ("options", "def __init__(self, moves)", "def __init__(self, moves, height)", "environment: .*height"),
        ("options", '"lift"', '"lifter"', "environment=lift: no installed plugin adds it"),
        ("schemas", "floors: How many.", "How many.", "its action up cannot be told to a model"),
        ("repetition", "self.goal, self.floor, self.moved = goal, 0, 0", "self.goal, self.floor, self.moved = goal, "
         "getattr(self, 'floor', 0), 0", "the same actions in the row {'goal': 2} give other games"),
        ("repetition", "return str(self.floor)", "return str(random.random())", "the same actions"),
        ("repetition", 'return " go"', "return 3", "reset returned 3"),
        ("repetition", "return float(self.floor == self.goal)", "return None", "its reward is None"),
        ("end", "        if self.over:\n            return 'over'\n".replace("'", '"'), "", "behind its end change it"),
    ],
)  # fmt: skip
def test_a_fault_is_found(fake_package: Callable[..., None], check: str, old: str, new: str, reason: str) -> None:
    assert old in CODE
    fake_package("fake_lift", CODE.replace(old, new), OPTION)
    with pytest.raises(NotConforming) as refused:
        CHECKS[check]()
    first, _, fix = str(refused.value).rpartition("\nFix: ")
    assert first.startswith("lift: ")
    assert fix
    assert re.search(reason.replace("{", r"\{").replace("}", r"\}"), first), first

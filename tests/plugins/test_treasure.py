"""The text game: its rules, its islands, and how often chance wins."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from alignzoo_plugins.environments import Treasure
from repository import ROOT

from alignzoo import UserError
from alignzoo.plugin.environment import find_actions
from alignzoo.testing import environment_conformance

TestTreasure = environment_conformance(
    "treasure", {"start": "a1", "treasure": "d4"}, {"start": "b3", "treasure": "b2"}, {"start": "c1", "treasure": "a1"}
)

ROWS = [
    json.loads(line)
    for file in ("train", "heldout")
    for line in (ROOT / "alignzoo" / "data" / "treasure" / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
]


def begin(start: str = "a1", treasure: str = "c2", **options: Any) -> tuple[Treasure, str]:
    game = Treasure(**options)
    return game, game.reset(start=start, treasure=treasure)


def test_its_actions() -> None:
    assert find_actions(Treasure) == ["east", "north", "south", "west"]


def test_a_game() -> None:
    game, seen = begin(moves=8)
    assert seen == " east"
    assert [game.east(), game.north(), game.south(), game.north()] == ["north", "east", "north", "east"]
    assert game.reward == pytest.approx(0.5 * 2 / 3)
    assert not game.over
    assert game.east() == "found"
    assert (game.success, game.over, game.reward) == (True, True, pytest.approx(1 - 0.05 * 2))
    assert game.west() == game.east() == "over"
    assert game.success


def test_the_sea_stops_a_move_and_who_goes_away_loses_nothing() -> None:
    game, _ = begin("a1", "c1")
    assert game.west() == "east"
    assert game.reward == 0
    assert game.east() == "east"
    assert game.reward == pytest.approx(0.25)
    assert game.west() == "east"
    assert game.reward == pytest.approx(0.25)


def test_moves_are_bounded() -> None:
    game, _ = begin("a1", "d1", moves=2)
    game.east()
    game.east()
    assert game.over
    assert game.east() == "over"
    assert not game.success


@pytest.mark.parametrize("field", ["e1", "a5", "a0", "a", "", None, "a11"])
def test_a_field_that_is_not_there_is_refused(field: Any) -> None:
    with pytest.raises(UserError, match=r"is not a field: they are a1 to d4\.$"):
        Treasure().reset(start="a1", treasure=field)


def test_whoever_follows_the_words_always_wins_without_a_detour() -> None:
    for row in ROWS:
        game = Treasure()
        seen = game.reset(**row).strip()
        while not game.over:
            seen = getattr(game, seen)()
        assert game.success
        assert game.reward == 1


def test_chance_wins_10_in_100_games_as_the_options_say() -> None:
    chance, actions, won, games = random.Random(0), find_actions(Treasure), 0, 20 * len(ROWS)
    for row in ROWS * 20:
        game = Treasure()
        game.reset(**row)
        while not game.over:
            getattr(game, chance.choice(actions))()
        won += game.success
    assert won / games == pytest.approx(0.0988, abs=0.02), "of 3,440 games: four standard deviations"
    assert "chance wins 10 % of the games" in (ROOT / "conf" / "environment" / "treasure.yaml").read_text().replace(
        "\n# ", " "
    )

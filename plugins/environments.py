"""The first-party environments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from alignzoo import Environment, UserError, hookimpl

SIDE = 4  #: fields of the island in each direction; named as in chess: a1 is the south-western corner


class Treasure(Environment):
    """A text game: walk to the treasure on an island of 4 by 4 fields, told in which direction it lies.

    The reward is 1 for the treasure, less a twentieth for each move more than the way needs; else half of the share of
    the way that the player had covered where it was nearest, so that trying costs nothing.
    """

    name = "treasure"
    columns = frozenset({"start", "treasure"})

    def __init__(self, moves: int = 4) -> None:
        if moves < 1:
            raise UserError(f"environment.moves={moves} must be at least 1.")
        self.moves = moves

    def reset(self, **columns: Any) -> str:
        """Put the player on the field ``start``, and the treasure on the field ``treasure``."""
        self.at, self.goal = _read_field(columns["start"]), _read_field(columns["treasure"])
        self.way = self.nearest = self._distance()
        self.moved = 0
        return f" {self._look()}"

    def north(self) -> str:
        """Go one field to the north."""
        return self._go(0, 1)

    def south(self) -> str:
        """Go one field to the south."""
        return self._go(0, -1)

    def east(self) -> str:
        """Go one field to the east."""
        return self._go(1, 0)

    def west(self) -> str:
        """Go one field to the west."""
        return self._go(-1, 0)

    @property
    def reward(self) -> float:
        """Up to 1, as the class says."""
        if self.success:
            return 1 - 0.05 * (self.moved - self.way)
        return 0.5 * (1 - self.nearest / self.way) if self.way else 0.0

    @property
    def success(self) -> bool:
        """Whether the treasure was reached."""
        return self.at == self.goal

    @property
    def over(self) -> bool:
        """Whether it was, or no move is left."""
        return self.success or self.moved >= self.moves

    def _go(self, east: int, north: int) -> str:
        if self.over:
            return "over"
        self.moved += 1
        self.at = _clip(self.at[0] + east), _clip(self.at[1] + north)
        self.nearest = min(self.nearest, self._distance())
        return self._look()

    def _look(self) -> str:
        """Say in which of the four directions the treasure is farther from here, or that it is found."""
        right, up = self.goal[0] - self.at[0], self.goal[1] - self.at[1]
        if not right and not up:
            return "found"
        if abs(up) >= abs(right):
            return "north" if up > 0 else "south"
        return "east" if right > 0 else "west"

    def _distance(self) -> int:
        return abs(self.goal[0] - self.at[0]) + abs(self.goal[1] - self.at[1])


def _clip(place: int) -> int:
    return min(max(place, 0), SIDE - 1)


def _read_field(name: Any) -> tuple[int, int]:
    """Return the column and row, from 0, of a field such as b3."""
    column, row = "abcd".find(str(name)[:1]), str(name)[1:]
    if column < 0 or len(str(name)) != 2 or row not in "1234":
        raise UserError(f"environment=treasure: {name!r} is not a field: they are a1 to d4.")
    return column, int(row) - 1


@hookimpl
def alignzoo_environments() -> Iterable[type[Environment]]:
    """Return the first-party environments."""
    return [Treasure]

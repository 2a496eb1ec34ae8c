"""Defines an environment: something that a policy acts in over several turns, such as a game."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Environment(ABC):
    """Something to act in. A plugin subclasses it; ``environment.*`` are the constructor's keyword arguments.

    Each further public method is an action, which the model calls as a tool: every argument has a type and a line under
    ``Args:`` of the docstring, and what it returns, as text, is what the model reads next. An exception's text is read
    in its place. Each completion acts in an object of its own, which is used again after :meth:`reset`. The docstring's
    first line is what ``list`` shows.
    """

    name: ClassVar[str]
    """The word after ``environment=``, and the name of its reward in the logs."""

    columns: ClassVar[frozenset[str]] = frozenset()
    """Dataset columns that :meth:`reset` reads; a dataset without them is refused."""

    @abstractmethod
    def reset(self, **columns: Any) -> str | None:
        """Begin anew for one row, and return what is added to its prompt; None adds nothing.

        What follows must depend on the row and the actions alone: a resumed run plays on as if it had not stopped.

        Args:
            columns: the row's ``prompt`` and the dataset's further columns.
        """

    @property
    @abstractmethod
    def reward(self) -> float:
        """What the actions since :meth:`reset` are worth: a finite number."""

    @property
    @abstractmethod
    def success(self) -> bool:
        """Whether the actions since :meth:`reset` have reached the goal."""

    @property
    def over(self) -> bool:
        """Whether no further action changes anything. The yardstick counts and plays the turns up to there."""
        return False


def find_actions(environment: type[Environment]) -> list[str]:
    """Return the names of its actions, as TRL finds them: the class's public functions but ``reset``."""
    functions = inspect.getmembers(environment, predicate=inspect.isfunction)
    return [name for name, _ in functions if name != "reset" and not name.startswith("_")]

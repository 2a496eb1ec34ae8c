"""Defines a tool: a function that the policy calls while it writes a completion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Tool(ABC):
    """A function that the policy may call. A plugin subclasses it; ``tools.<name>.*`` are the constructor's arguments.

    The docstring's first line is what ``list`` shows. Completions of one batch call the same object, so that it keeps
    nothing between calls.
    """

    name: ClassVar[str]
    """The word after ``tools=``, and the function's name as the model calls it."""

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """Return what the model reads as the answer of its call; an exception's text where one is raised.

        The model is told of the function by its signature and its docstring: every argument has a type, and a line
        under ``Args:`` (transformers' ``get_json_schema``).
        """

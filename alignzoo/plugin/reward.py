"""Defines a reward: the score of sampled completions, for on-policy methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Any, ClassVar


class Reward(ABC):
    """Scores completions. A plugin subclasses it; ``reward.<name>.*`` are the constructor's keyword arguments.

    The docstring's first line is what ``list`` shows. One whose scores depend on those before has ``state_dict()``, of
    plain values and tensors, and ``load_state_dict(state)``: checkpoints hold it, and a resumed run gets it back.
    """

    name: ClassVar[str]
    """The word after ``reward=``, and the metric's name in the logs."""

    columns: ClassVar[frozenset[str]] = frozenset()
    """Dataset columns that it reads, such as ``answer``; a dataset without them is refused."""

    @abstractmethod
    def __call__(
        self, prompts: list[str], completions: list[str], **columns: list[Any]
    ) -> list[float] | Awaitable[list[float]]:
        """Return one finite score per completion.

        One that waits for a service may be ``async def``: several such rewards then wait at the same time. All run in
        one event loop, in a thread of its own, in training and in measuring.

        Args:
            prompts: the last user turn of each prompt, or the text of a plain prompt.
            completions: the sampled completions, as text, without special tokens.
            columns: the dataset's further columns, one value per completion; ``ended``: whether it ended with EOS; and
                ``whole_prompts``: each prompt with all its turns, as messages, or the text of a plain prompt.
        """

"""Defines a judge, which says which of two answers to a prompt is better."""

from __future__ import annotations

import inspect
import threading
from abc import ABC, abstractmethod
from collections import Counter
from typing import Any, ClassVar, Self

_REMARKS = threading.Lock()


class Judge(ABC):
    """Compares answers. A plugin subclasses it; ``judge.*`` are the constructor's keyword arguments.

    It must not know which run is which: it is given texts, and nothing of where they come from. Verdicts are cached on
    disk by :mod:`alignzoo.evaluate.verdicts`, under :meth:`identity`, and no pair is judged twice. The docstring's
    first line is what ``list`` shows.
    """

    name: ClassVar[str]
    """The word after ``judge=``."""

    silent: ClassVar[frozenset[str]] = frozenset()
    """Settings that change no verdict, such as a batch size: judged under one value, known under the other."""

    judges_length: ClassVar[bool] = False
    """Whether its verdicts are about length by intention: runs then aim at its win rate as it is, and not at the one
    at equal length."""

    batch_size: int = 1
    """Pairs handed to one call; the verdicts are saved after each call."""

    at_once: int = 1
    """Calls that run at the same time, in threads; 1: in the caller's thread."""

    total: int = 0
    """Pairs that will be asked for, set before the first call."""

    settings: dict[str, Any]
    """The constructor's arguments."""

    remarks: Counter[str]
    """What was unusual, and how often, such as an answer of the judge's that says nothing."""

    def __new__(cls, *args: Any, **keys: Any) -> Self:
        """Note the settings, so that no judge can forget one of them in its identity."""
        judge = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind(judge, *args, **keys)
        bound.apply_defaults()
        judge.settings = dict(list(bound.arguments.items())[1:])
        judge.remarks = Counter()
        return judge

    def identity(self) -> dict[str, Any]:
        """Return what decides its verdicts, as JSON has it: the name and the settings that are not ``silent``."""
        return {"judge": self.name} | {key: value for key, value in self.settings.items() if key not in self.silent}

    def remark(self, text: str) -> None:
        """Count something unusual; safe in threads."""
        with _REMARKS:
            self.remarks[text] += 1

    @abstractmethod
    def __call__(self, prompts: list[str], a: list[str], b: list[str]) -> list[float]:
        """Return one verdict per prompt: 1.0 where answer A wins, 0.0 where B wins, 0.5 for a tie.

        Args:
            prompts: the last user turn of each prompt, or the text of a plain prompt.
            a: one answer to each, as text.
            b: another answer to each.

        Raises:
            UserError: it cannot continue; the verdicts of earlier calls are saved.
        """

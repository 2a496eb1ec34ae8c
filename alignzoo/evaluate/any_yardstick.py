"""Declares what all yardsticks have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class AnyYardstick(Protocol):
    """The interface of all yardsticks: of policies, of reward models, and of benchmark tasks."""

    @property
    def objective(self) -> str:
        """The run's number for sweeps and leaderboards."""

    def measure_start(self, model: Any, identity: str) -> list[Any]:
        """Measure the model to compare with, whose weights ``identity`` names."""

    def measure(self, model: Any, start: Callable[[], Any] | None) -> list[Any]:
        """Measure the trained model; ``start`` loads the one to compare with."""

    def make_lines(self, before: Sequence[Any], after: Sequence[Any]) -> list[dict[str, Any]]:
        """Return one line per held-out prompt, as ``answers.jsonl`` holds them."""

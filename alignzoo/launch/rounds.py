"""Writes out the stages of a pipeline that runs in rounds: each starts where the round before ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from alignzoo.system.errors import UserError

#: Keys of a stage that name another of the same round.
WITHIN = ("start", "reward", "data")


class Named(NamedTuple):
    """A stage as the YAML has it, and the name by which it is run."""

    name: str
    keys: Any
    typed: str
    """Its name in the YAML; empty where that is the same."""


def expand_rounds(pipeline: Mapping[str, Any]) -> list[Named]:
    """Return the stages of ``pipeline.stages`` in their order, once for each of ``pipeline.rounds``.

    The stage ``dpo`` becomes ``dpo-1``, ``dpo-2``, ... Its key ``next`` names the stage of the round before from whose
    policy it starts, in every round but the first. Without ``rounds`` there is one round, and names stay.

    Raises:
        UserError: there are no stages, ``rounds`` is not a number, or ``next`` names no stage.
    """
    stages, rounds = pipeline.get("stages"), pipeline.get("rounds")
    if not isinstance(stages, dict) or not stages:
        raise UserError("pipeline.stages is empty: name at least one stage and its method.")
    if rounds is None:
        return [Named(str(name), keys, "") for name, keys in stages.items()]
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise UserError(f"pipeline.rounds={rounds} must be a whole number of at least 1.")
    return [
        Named(f"{name}-{number}", _place_in_round(str(name), keys, number, stages), str(name))
        for number in range(1, rounds + 1)
        for name, keys in stages.items()
    ]


def _place_in_round(name: str, keys: Any, number: int, stages: Mapping[str, Any]) -> Any:
    """Return a stage's keys with the names that stages have in the round of that number."""
    if not isinstance(keys, dict):
        return keys
    placed = {key: value for key, value in keys.items() if key != "next"}
    placed |= {key: f"{keys[key]}-{number}" for key in WITHIN if keys.get(key) in stages}
    following = keys.get("next")
    if following is not None and following not in stages:
        there = ", ".join(map(str, stages))
        raise UserError(f"pipeline stage {name}: next={following} is not a stage of the pipeline (there: {there}).")
    return placed | ({"start": f"{following}-{number - 1}"} if following is not None and number > 1 else {})

"""Parses what a run folder's files hold, and says what is wrong with it before anything computes with it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

import yaml

from alignzoo.config.plain import flatten

#: What a result may hold beside its numbers -> the type that its readers rely on.
KINDS: dict[str, type] = {
    **{"method": str, "objective": str, "selected_on": str},
    **{"cost": dict, "data": dict, "start": dict, "validation": dict, "tasks": dict},
}

#: What one side of an answer's line may hold -> what must be a number then.
MEASURED: dict[str, tuple[str, ...]] = {
    "text": ("tokens", "ended"),
    "kl": ("kl", "kl_tokens"),
    "teacher_kl": ("teacher_kl", "teacher_kl_tokens"),
    "reward": ("reward",),
    "success": ("success",),
    "turns": ("turns",),
    "win": ("win",),
    "chosen_score": ("chosen_score", "rejected_score"),
}


def parse_json(text: str) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is not JSON, or holds half a character (a lone surrogate), which no file and no page can.
    """
    found = json.loads(text)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def parse_result(text: str) -> dict[str, Any]:
    """Return what ``result.json`` holds.

    Raises:
        ValueError: it is not the result of a run.
    """
    result = parse_json(text)
    if not isinstance(result, dict):
        raise ValueError(f"it holds {_name(result)} and not the result of a run")
    for key, kind in KINDS.items():
        if not isinstance(result.get(key, kind()), kind):
            raise ValueError(f"its {key} is {_name(result[key])}")
    _check_measured(result)
    if "validation" in result:
        _check_measured(result["validation"])
    _check_texts(result.get("data", {}))
    return result


def parse_answers(text: str) -> list[dict[str, Any]]:
    """Return the lines of ``answers.jsonl``.

    Raises:
        ValueError: a line is not JSON, or not a prompt with its two answers.
    """
    return _parse_lines(text, _check_line)


def parse_items(text: str) -> list[dict[str, Any]]:
    """Return the lines of ``tasks.jsonl``.

    Raises:
        ValueError: a line is not JSON, or not an item of a task with its scores on both sides.
    """
    return _parse_lines(text, _check_item)


def parse_config(text: str) -> dict[str, Any]:
    """Return the settings in ``run.yaml``, flat, without Hydra's.

    Raises:
        ValueError: it is not a configuration.
        Exception: what PyYAML raises.
    """
    read = yaml.safe_load(text) or {}
    if not isinstance(read, dict):
        raise ValueError("it is not a mapping")
    read.pop("hydra", None)  # the folders of the run, not its settings
    flat = {key: _number_of(value) for key, value in flatten(read).items()}
    json.dumps(flat, sort_keys=True, default=str, ensure_ascii=False).encode()  # as runs are told apart
    return flat


def parse_history(text: str) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl`` that are whole.

    A run that was killed may have left another, also one before it was resumed.
    """
    found = []
    for line in text.split("\n"):
        with contextlib.suppress(ValueError, RecursionError):
            read = parse_json(line)
            if isinstance(read, dict) and is_number(read.get("step")):
                found.append(read)
    return found


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a finite number."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # of a whole number of hundreds of digits
        return False


def _parse_lines(text: str, check: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    found = []  # not by `splitlines`: U+2028 stands in texts, and ends no line of JSON
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append(check(parse_json(line)))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from None
    return found


def _check_item(line: Any) -> dict[str, Any]:
    kinds = {"task": str, "part": str, "item": int, "hash": str, "before": dict, "after": dict}
    if not isinstance(line, dict) or not all(isinstance(line.get(key), kind) for key, kind in kinds.items()):
        raise ValueError("it is not an item of a task")
    for side in ("before", "after"):
        scores = line[side].get("scores")
        if not isinstance(scores, dict) or not all(map(is_number, scores.values())):
            raise ValueError(f"it has no scores {side}")
    return line


def _number_of(value: Any) -> Any:
    """Return a number that YAML 1.1 reads as text, as it does 5e-07."""
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _check_measured(result: Mapping[str, Any]) -> None:
    """Check the numbers on the held-out rows, or on those for validation."""
    for side in ("before", "after"):
        _check_numbers(result.get(side), side)
    missing = sorted(result["after"].keys() - result["before"].keys())
    if missing:
        raise ValueError(f"its before lacks {missing[0]}")
    _check_intervals(result.get("intervals", {}))


def _check_numbers(numbers: Any, side: str) -> None:
    if not isinstance(numbers, dict):
        raise ValueError(f"it has no numbers of the model {side}")
    for key, value in numbers.items():
        if not is_number(value):
            raise ValueError(f"{key} {side} is {_name(value)} and not a finite number")


def _check_intervals(intervals: Any) -> None:
    if not isinstance(intervals, dict):
        raise ValueError(f"its intervals are {_name(intervals)}")
    for key, ends in intervals.items():
        if not (isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends)) and ends[0] <= ends[1]):
            raise ValueError(f"the interval of {key} is not two numbers, the lower one first")


def _check_texts(data: Mapping[str, Any]) -> None:
    for key, value in data.items():
        if not isinstance(value, str):
            raise ValueError(f"data.{key} is {_name(value)} and not a text")


def _check_line(line: Any) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise ValueError(f"it holds {_name(line)} and not a prompt with its answers")
    if not isinstance(line.get("id"), str | int) or not isinstance(line.get("prompt"), str):
        raise ValueError("it has no id or no prompt")
    for side in map(_check_side, (line.get("before"), line.get("after"))):
        if line.get("chosen_tokens") is not None:
            _require(side, ("chosen", "rejected"))
    if line.get("chosen_tokens") is not None:
        _require(line, ("chosen_tokens", "rejected_tokens"), least=1)
    return line


def _check_side(side: Any) -> dict[str, Any]:
    if not isinstance(side, dict):
        raise ValueError("it has no answer before or after")
    for key, needed in MEASURED.items():
        if side.get(key) is not None:
            _require(side, needed)
    if not isinstance(side.get("text", ""), str):
        raise ValueError(f"an answer is {_name(side['text'])} and not a text")
    return side


def _require(values: Mapping[str, Any], keys: Sequence[str], least: float = -math.inf) -> None:
    for key in keys:
        value = values.get(key)
        if not isinstance(value, bool) and not (is_number(value) and value >= least):
            raise ValueError(f"{key} is {_name(value)}")


def _name(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", type(None): "missing"}
    return names.get(type(value)) or str(value)[:40]

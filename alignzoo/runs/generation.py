"""Reads the folder of a generation: the rows that were made of a model's own answers, and how they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignzoo.runs.contents import parse_json
from alignzoo.runs.find_runs import DEPTH
from alignzoo.runs.folder import CONFIG, GENERATED
from alignzoo.system.errors import UserError, explain_missing
from alignzoo.system.parsing import parse_file

ROWS = "train.jsonl"  #: the rows to train on
SAMPLES = "samples.jsonl"  #: all answers, with their scores

SHOWN = 12  #: generations that a leaderboard names before the rest is counted


def read_generation(folder: Path, named: str) -> dict[str, Any]:
    """Return what ``generated.json`` holds, of the folder that the user calls ``named``.

    Raises:
        UserError: there is none, or it is not what a generation wrote.
    """
    file = folder / GENERATED
    if not file.is_file():
        there = explain_missing(folder) if not folder.is_dir() else f" It has no {GENERATED}."
        raise UserError(f"{named} is not the folder of a finished +generate= run.{there}")
    return parse_file(file, _parse)


def _parse(text: str) -> dict[str, Any]:
    found = parse_json(text)
    for key in ("counts", "scores", "sampling", "start"):
        if not isinstance(found, dict) or not isinstance(found.get(key), dict):
            raise ValueError(f"it has no {key}")
    return dict(found)


def is_generation(folder: Path) -> bool:
    """Tell whether a run's folder is that of a generation, finished or not."""
    if (folder / GENERATED).is_file():
        return True
    try:
        return re.search("^generate:", (folder / CONFIG).read_text(encoding="utf-8"), re.MULTILINE) is not None
    except (OSError, UnicodeDecodeError):
        return False


def describe_generations(folders: Sequence[Path]) -> list[str]:
    """Return a line on each finished generation in ``folders``, or in folders below them."""
    found = {
        file.resolve(): file.parent
        for folder in folders
        for depth in range(DEPTH + 1)
        for file in sorted(folder.glob("*/" * depth + GENERATED))
    }
    lines = []
    for folder in list(found.values())[:SHOWN]:
        try:
            lines.append(f"{folder.name}: {describe_generation(read_generation(folder, str(folder)))}")
        except UserError as error:
            lines.append(f"{folder.name}: {error}")
    return lines + ([f"and {len(found) - SHOWN} more generations"] if len(found) > SHOWN else [])


def describe_generation(found: Mapping[str, Any]) -> str:
    """Return in one line what was generated: prompts, rows, what was left out, and mean scores."""
    counts, scores, sampling = found["counts"], found["scores"], found["sampling"]
    left_out = [
        f"{counts.get(key, 0):,} {what}"
        for key, what in (("ties", "tied"), ("unfit", "without an answer to choose"))
        if counts.get(key)
    ]
    less = f"; of the prompts {' and '.join(left_out)}" if left_out else ""
    asked = f"{counts.get('prompts', 0):,} prompts x {sampling.get('samples')} answers"
    means = ", ".join(f"{name} {scores[name]:.3g}" for name in ("chosen", "rejected") if scores.get(name) is not None)
    return f"{asked}: {counts.get('rows', 0):,} {found.get('kind', 'rows')}{less}; mean score {_say(scores)} ({means})"


def _say(scores: Mapping[str, Any]) -> str:
    mean = scores.get("mean")
    return "unknown" if mean is None else f"{mean:.3g}"

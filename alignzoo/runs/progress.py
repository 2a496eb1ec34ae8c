"""Writes and reads how far a run is and what it answers so far, for who follows it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from alignzoo.runs.contents import is_number, parse_json
from alignzoo.system import ranks
from alignzoo.system.files import write_atomically

FILE = "progress.json"  #: written anew every few seconds of a training
ANSWERS = "answers_so_far.jsonl"  #: one line a measurement: the step, and the first held-out prompts' completions
MEASURING = "measuring"
TRAINING = "training"


@dataclass(frozen=True)
class Progress:
    """How far a run's training is."""

    phase: str
    """:data:`TRAINING`, or :data:`MEASURING` the trained model."""

    step: int
    """Optimizer steps made."""

    steps: int
    """Of the whole training."""

    first_step: int
    """At which this start of the run began; above 0 where it was resumed."""

    seconds: float
    """Of training since then."""

    peak_bytes: int
    """Most memory so far: of the main process's GPU, or of the process itself."""

    free_bytes: int
    """Memory left there."""

    @property
    def seconds_left(self) -> float | None:
        """Of training, at the pace so far; None before a step was made."""
        made = self.step - self.first_step
        return self.seconds / made * max(0, self.steps - self.step) if made > 0 else None


@ranks.on_main
def write_progress(folder: Path, now: Progress) -> None:
    """Write how far the run in ``folder`` is; where the disk takes nothing, the training goes on without."""
    with contextlib.suppress(OSError), write_atomically(folder / FILE) as aside:
        aside.write_text(json.dumps(asdict(now)) + "\n", encoding="utf-8")


@ranks.on_main
def append_answers(folder: Path, step: int, answers: Sequence[Mapping[str, Any]]) -> None:
    """Append what the model of a step answers to the first held-out prompts."""
    with (folder / ANSWERS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"step": step, "answers": [*answers]}) + "\n")


def truncate(folder: Path, step: int) -> None:
    """Take back what an earlier start wrote beyond ``step``, from which this one resumes."""
    (folder / FILE).unlink(missing_ok=True)
    kept = [json.dumps(line) + "\n" for line in read_answers(folder) if line["step"] <= step]
    if kept and step:
        with write_atomically(folder / ANSWERS) as aside:
            aside.write_text("".join(kept), encoding="utf-8")
    else:
        (folder / ANSWERS).unlink(missing_ok=True)


def read_progress(folder: Path) -> Progress | None:
    """Return what the run in ``folder`` wrote last of its training; None where there is nothing that can be read."""
    try:
        found = parse_json((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return _parse_progress(found) if isinstance(found, dict) else None


def _parse_progress(found: Mapping[str, Any]) -> Progress | None:
    values = {field.name: found.get(field.name) for field in fields(Progress)}
    phase = values.pop("phase")
    numbers = {key: value for key, value in values.items() if is_number(value) and value >= 0}
    if phase not in (TRAINING, MEASURING) or len(numbers) < len(values):
        return None
    whole = {key: value if key == "seconds" else int(value) for key, value in numbers.items()}
    return Progress(phase, **whole)  # type: ignore[arg-type]


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """Return the whole lines of :data:`ANSWERS`: ``step``, and ``answers`` with ``id``, ``prompt`` and ``text``."""
    try:
        text = (folder / ANSWERS).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in map(_parse_answers, text.split("\n")) if line is not None]


def _parse_answers(text: str) -> dict[str, Any] | None:
    try:
        line = parse_json(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not is_number(line.get("step")) or not isinstance(line.get("answers"), list):
        return None
    return line if all(map(_is_answer, line["answers"])) else None


def _is_answer(answer: Any) -> bool:
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("id"), str | int)
        and all(isinstance(answer.get(key), str) for key in ("prompt", "text"))
    )

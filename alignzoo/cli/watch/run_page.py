"""Describes one run for the page: its line in the table, its curves and its answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.plugin.method import Method
from alignzoo.plugin.registry import registry
from alignzoo.report.leaderboard.curves import LONG
from alignzoo.report.leaderboard.reading import Points, read_curve
from alignzoo.report.training_curves import smooth
from alignzoo.runs import progress
from alignzoo.runs.contents import is_number
from alignzoo.runs.folder import GENERATED, Run
from alignzoo.runs.generation import describe_generation, is_generation, read_generation
from alignzoo.runs.sweep_status import State
from alignzoo.system.errors import UserError
from alignzoo.system.limits import format_bytes, format_seconds

PROMPTS = 5  #: whose answers are shown
POINTS = 200  #: of a curve; more are thinned
PREPARING, GENERATING = "preparing", "generating"


def read_headline(method: str) -> dict[str, str]:
    """Return what the method's progress bar shows: TRL's metric -> short name; a method may be unknown here."""
    known: type[Method] | None = registry().methods[method][0] if method in registry().methods else None
    return {"loss": "loss", **(known.headline if known else Method.headline)}


def describe_run(run: Run, state: State, detail: str) -> dict[str, Any]:
    """Return the run's line: all but what changes although no file does."""
    now, history = progress.read_progress(run.folder), run.history
    result = _read_result(run) if state is State.DONE else {}
    cost = {key: value for key, value in result.get("cost", {}).items() if is_number(value)}
    steps = now.steps if now else None
    step = now.step if now and state is not State.DONE else cost.get("steps", history[-1]["step"] if history else 0)
    left = now.seconds_left if now and state is State.RUNNING and now.phase == progress.TRAINING else None
    peak = cost.get("peak_memory_bytes", now.peak_bytes if now else None)
    return {
        "method": run.method,
        "state": state,
        "detail": detail if state is not State.DONE else _describe_generation(run.folder),
        "phase": _name_phase(run, now) if state is State.RUNNING else "",
        "step": step,
        "steps": step if state is State.DONE else steps,
        "numbers": list(_list_latest(run)),
        "objective": _format_objective(run, result),
        "seconds": cost.get("total_seconds", now.seconds if now else None),
        "left": left,
        "measuring": cost.get("measure_seconds"),
        "memory": "" if peak is None else format_bytes(peak),
        "free": format_bytes(now.free_bytes) if now and state is State.RUNNING else "",
    }


def _name_phase(run: Run, now: progress.Progress | None) -> str:
    """Return what a running run does; one of an older version says it by what it has logged alone."""
    if now:
        return now.phase
    if not run.history:
        return GENERATING if is_generation(run.folder) else PREPARING
    return progress.MEASURING if "train_runtime" in run.history[-1] else progress.TRAINING


def _describe_generation(folder: Path) -> str:
    """Return what a finished generation made; empty for a training."""
    try:
        return describe_generation(read_generation(folder, folder.name)) if (folder / GENERATED).is_file() else ""
    except UserError as error:
        return str(error)


def _read_result(run: Run) -> dict[str, Any]:
    try:
        return run.read_result()
    except UserError:  # it was removed meanwhile
        return {}


def _list_latest(run: Run) -> Iterator[tuple[str, str]]:
    for metric, short in read_headline(run.method).items():
        points = read_curve(run.history, metric)
        if points:
            yield short, f"{points[-1][1]:.3g}"


def _format_objective(run: Run, result: Mapping[str, Any]) -> str:
    known = NUMBERS.get(str(result.get("objective")))
    value = run.objective if known else None
    return f"{known.short} {known.form.format(value)}" if known and is_number(value) else ""


def read_curves(run: Run) -> dict[str, list[list[float]]]:
    """Return each headline number's curve, by its short name, smoothed where it is long, as the leaderboard's are."""
    found = {short: read_curve(run.history, metric) for metric, short in read_headline(run.method).items()}
    return {short: _thin(_smooth(points)) for short, points in found.items() if points}


def _smooth(points: Points) -> Points:
    steps, values = zip(*points, strict=True)
    return tuple(zip(steps, smooth(values), strict=True)) if len(values) >= LONG else points


def _thin(points: Points) -> list[list[float]]:
    """Return at most :data:`POINTS` of the points, the last one among them."""
    every = -(-len(points) // POINTS)
    return [[step, float(f"{value:.4g}")] for step, value in points[::-1][::every][::-1]]


def read_details(run: Run) -> dict[str, Any]:
    """Return the answers so far, and the numbers of a run that has ended."""
    result = _read_result(run) if run.is_finished else {}
    before, after = result.get("before", {}), result.get("after", {})
    numbers = [[one.label, *(one.form.format(side[key]) for side in (before, after))] for key, one in _known(after)]
    return {"answers": list(_list_answers(run)), "numbers": numbers, "error": run.error or ""}


def _known(numbers: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((key, one) for key, one in NUMBERS.items() if key in numbers)


def _list_answers(run: Run) -> Iterator[dict[str, Any]]:
    """Yield each of the first held-out prompts with what was answered to it, one after the other where it changed."""
    measured = [(_name_step(line["step"]), line["answers"]) for line in progress.read_answers(run.folder)]
    ended = _read_ended(run)
    if ended:
        sides = {side: [_of_side(line, side) for line in ended] for side in ("before", "after")}
        measured = [*(measured or [(_name_step(0), sides["before"])]), ("trained", sides["after"])]
    for answer in measured[0][1][:PROMPTS] if measured else ():
        said = [(when, one) for when, every in measured for one in every if one["id"] == answer["id"]]
        yield {"prompt": answer["prompt"], "versions": list(_list_changes(said))}


def _read_ended(run: Run) -> list[dict[str, Any]]:
    """Return the lines of a run whose trained model has answered; a reward model does not."""
    try:
        lines = run.lines[:PROMPTS]
    except UserError:
        return []
    return [line for line in lines if "text" in line["before"] and "text" in line["after"]]


def _of_side(line: Mapping[str, Any], side: str) -> dict[str, Any]:
    return {"id": line["id"], "prompt": line["prompt"], **line[side]}


def _name_step(step: float) -> str:
    return f"step {step:,.0f}" if step else "start model"


def _list_changes(said: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the answers that differ from the one before; ``until``: when it was last the same."""
    last: dict[str, Any] | None = None
    for when, answer in said:
        if last and last["text"] == answer["text"]:
            last["until"] = when
            continue
        if last:
            yield last
        last = {"when": when, "until": "", "text": answer["text"], "cut": answer.get("ended") is False}
    if last:
        yield last


def describe_age(written: float) -> str:
    """Return since when a running run has written nothing, where that is more than a minute."""
    quiet = time.time() - written
    return f"last wrote {format_seconds(quiet)} ago" if quiet > 60 else ""

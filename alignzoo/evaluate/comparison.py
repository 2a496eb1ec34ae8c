"""Compares the completions of the start model and of one or more runs, on the prompts that all of them have."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.evaluate.comparison_wins import LETTERS, START, compare_judges, judge_columns
from alignzoo.evaluate.intervals import Estimate, bootstrap, linearise, wilson
from alignzoo.evaluate.judge import name_judges
from alignzoo.evaluate.simultaneous import compare_two
from alignzoo.evaluate.style import AXES, Axis, count_words
from alignzoo.runs.folder import Run
from alignzoo.system.errors import UserError, explain_missing

if TYPE_CHECKING:
    from alignzoo.plugin.judge import Judge

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class ComparedRun:
    """A finished run's completions, by prompt id, and its result."""

    folder: Path
    lines: dict[str, dict[str, Any]]
    result: dict[str, Any]

    rewards: dict[str, Any]
    """The settings of the rewards by which its completions were scored, flat."""

    @property
    def method(self) -> str:
        """Its method's name, as the result has it."""
        return str(self.result.get("method", ""))


def read_runs(folders: Sequence[Path]) -> tuple[list[ComparedRun], list[dict[str, str]]]:
    """Return the runs in ``folders`` that can be compared, and of the others the folder and the reason.

    Raises:
        UserError: one is not a folder, or none can be compared.
    """
    runs, failed = [], []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a finished run: the folder does not exist.{explain_missing(folder)}")
        try:
            runs.append(_read_run(folder))
        except UserError as error:
            failed.append({"folder": str(folder), "reason": str(error)})
    if not runs:
        raise UserError(failed[0]["reason"])
    return runs, failed


def _read_run(folder: Path) -> ComparedRun:
    run = Run(folder)
    result = run.read_result()
    if not (folder / "answers.jsonl").is_file():
        raise UserError(f"{folder} has no answers.jsonl: it was run with evaluate.enabled=false.")
    if any("chosen_score" in row["after"] for row in run.lines):
        raise UserError(f"{folder} has a reward model's scores and no completions: compare runs that trained a policy.")
    if any("text" not in row[side] for row in run.lines for side in ("before", "after")):
        raise UserError(f"{folder / 'answers.jsonl'} cannot be read: a line lacks a completion.")
    rewards = {key: value for key, value in run.config.items() if key.startswith("reward.")}
    return ComparedRun(folder, {str(row["id"]): row for row in run.lines}, result, rewards)


def compare(
    runs: Sequence[ComparedRun], judges: Sequence[Judge] = (), failed: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """Return what changed, as JSON holds it; ``failed``: the runs that cannot be compared; at most two ``judges``.

    Keys: ``columns`` (the start model, then the runs), ``failed``, ``notes``, ``axes`` (values, changes since the
    start and, of two runs, ``between`` them, each with its interval and the smallest change that so many prompts show),
    ``judges`` (their names and what decides their verdicts), ``wins`` (one entry per judge and comparison),
    ``agreement`` (of two judges, per comparison), ``remarks`` (of the judges), and ``prompts``, the biggest change
    first.

    Raises:
        UserError: the runs share no prompt.
    """
    ids = [key for key in runs[0].lines if all(key in run.lines for run in runs)]
    if not ids:
        raise UserError(
            f"{' and '.join(str(run.folder) for run in runs)} share no held-out prompt: nothing to compare."
        )
    columns = [[runs[0].lines[key]["before"] for key in ids], *([r.lines[key]["after"] for key in ids] for r in runs)]
    prompts = [runs[0].lines[key]["prompt"] for key in ids]
    named = list(zip(name_judges(judges), judges, strict=True))
    judged = [entry for name, judge in named for entry in judge_columns(judge, name, prompts, columns)]
    agreement = compare_judges(ids, judged) if len(judges) == 2 else []
    rows = [_compare_prompt(ids[i], prompts[i], [column[i] for column in columns]) for i in range(len(ids))]
    for row, *verdicts in zip(rows, *(entry.pop("verdicts") for entry in judged), strict=True):
        row["verdicts"] = verdicts
    return {
        "columns": _describe_columns(runs),
        "failed": list(failed),
        "count": len(ids),
        "notes": _find_caveats(runs, ids),
        "axes": [_compare_axis(key, axis, columns) for key, axis in {**AXES, **_find_rewards(runs, columns)}.items()],
        "judges": [{"name": name, **judge.identity()} for name, judge in named],
        "wins": judged,
        "agreement": agreement,
        "remarks": {name: dict(judge.remarks) for name, judge in named if judge.remarks},
        "prompts": sorted(rows, key=lambda row: -row["change"]),
    }


def _describe_columns(runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    columns = [{"name": START, "method": "", "objective": None, "folder": None}]
    for letter, run in zip(LETTERS, runs, strict=False):
        column = {"name": letter, "method": _name_method(run, runs), "objective": run.result.get("objective")}
        columns.append({**column, "folder": str(run.folder)})
    return columns


def _name_method(run: ComparedRun, runs: Sequence[ComparedRun]) -> str:
    """Return the run's method; behind that of the compared run whose model it began with, where it did."""
    start = (run.result.get("start") or {}).get("folder")
    first = [other for other in runs if other is not run and start == str(other.folder.resolve() / "model")]
    return f"{first[0].method} + {run.method}" if first else run.method


def _find_rewards(runs: Sequence[ComparedRun], columns: Sequence[Sequence[Answer]]) -> dict[str, Axis]:
    """Return an axis for the reward, where all completions were scored by the same one."""
    known = all(answer.get("reward") is not None for column in columns for answer in column)
    if not known or not runs[0].rewards or any(run.rewards != runs[0].rewards for run in runs):
        return {}
    names = dict.fromkeys(key.split(".")[1] for key in runs[0].rewards)
    return {"reward": Axis("reward", " + ".join(names), "{:.2f}", float, of="reward")}


def _find_caveats(runs: Sequence[ComparedRun], ids: Sequence[str]) -> list[str]:
    """Say what keeps the runs from being a fair comparison."""
    first, found = runs[0], []
    for letter, run in zip(LETTERS[1:], runs[1:], strict=False):
        data, others = first.result.get("data") or {}, run.result.get("data") or {}
        for part, how in (("train", "trained on other rows or tokens"), ("heldout", "held out other rows or tokens")):
            if data.get(part) != others.get(part):
                found.append(f"{letter} {how} than A: python -m alignzoo manifest names them.")
        different = sum(first.lines[key]["before"]["text"] != run.lines[key]["before"]["text"] for key in ids)
        if different:
            found.append(
                f"{letter} began from other completions than A on {different} prompts: the start shown is A's."
            )
    longest = max(len(run.lines) for run in runs)
    if len(ids) < longest:
        found.append(f"Only the {len(ids)} prompts that all runs answered are compared, of up to {longest}.")
    return found


def _compare_axis(key: str, axis: Axis, columns: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    counted = [_count(axis, column) for column in columns]
    values = [_estimate(axis, *pair) for pair in counted]
    changes = [None, *(_measure_change(axis, pair, counted[0]) for pair in counted[1:])]
    between = _measure_change(axis, counted[2], counted[1]) if len(counted) == 3 else None
    entry: dict[str, Any] = {"key": key, "group": axis.group, "label": axis.label, "form": axis.form}
    entry |= {"share": "%" in axis.form, "whole": axis.is_share}
    return entry | {"values": [_to_json(value) for value in values], "changes": changes, "between": between}


def _count(axis: Axis, column: Sequence[Answer]) -> tuple[Any, Any]:
    top = np.array([axis.count(answer[axis.of]) for answer in column], float)
    return top, np.array([axis.over(answer["text"]) for answer in column], float) if axis.over else np.ones_like(top)


def _estimate(axis: Axis, top: Any, below: Any) -> Estimate:
    if axis.is_share:
        return Estimate(float(top.mean()), *wilson(float(top.sum()), len(top)))
    return bootstrap(top, below)


def _measure_change(axis: Axis, after: tuple[Any, Any], before: tuple[Any, Any]) -> dict[str, Any] | None:
    """Return the change, whether it is more than chance, and the smallest one that so many prompts show."""
    first, second = linearise(*after), linearise(*before)
    if np.isnan(first).any() or np.isnan(second).any():  # nothing could be counted on one side
        return None
    compared = compare_two(first, second, 1.0 if axis.is_share else 0.0)
    found = compared.subtract(0, 1)
    return {**asdict(found), "sure": not found.is_zero, "smallest": compared.smallest}


def _to_json(found: Estimate) -> dict[str, Any] | None:
    return None if math.isnan(found.value) else asdict(found)


def _compare_prompt(key: str, prompt: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """Return a prompt with its completions and how much the last one differs: from the start, or of two runs from A."""
    texts = [answer["text"] for answer in answers]
    compared = len(texts) - 2, len(texts) - 1
    changes = [diff_words(texts[0], text) for text in texts[1:]]
    shown = [[(text, False)] for text in texts]
    change = max(found[2] for found in changes)
    if len(texts) <= 3:
        left, right, change = diff_words(*(texts[place] for place in compared))
        shown[compared[0]], shown[compared[1]] = left, right
    shown_answers = [
        {"text": a["text"], "pieces": pieces, "words": count_words(a["text"]), "ended": bool(a["ended"])}
        for a, pieces in zip(answers, shown, strict=True)
    ]
    return {"id": key, "prompt": prompt, "change": round(change, 4), "answers": shown_answers, "verdicts": []}


Pieces = list[tuple[str, bool]]


def diff_words(a: str, b: str) -> tuple[Pieces, Pieces, float]:
    """Return both texts as (piece, whether the other text lacks it), and the share of words that differ.

    The share is 1 minus difflib's ratio over words: 0 for equal texts, 1 for texts without a common word in order.
    """
    parts = [re.findall(r"\s*\S+", text) for text in (a, b)]
    left, right = ([part.strip() for part in found] for found in parts)
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    sides: tuple[Pieces, Pieces] = ([], [])
    for kind, *ends in matcher.get_opcodes():
        for side, found, (start, end) in zip(sides, parts, (ends[:2], ends[2:]), strict=True):
            piece, changed = "".join(found[start:end]), kind != "equal"
            blank = len(piece) - len(piece.lstrip()) if changed else 0  # not to be highlighted
            side += [(text, mark) for text, mark in ((piece[:blank], False), (piece[blank:], changed)) if text]
    return *sides, 1 - matcher.ratio()

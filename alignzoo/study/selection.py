"""Picks each method's winner among its trials, by their validation rows alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.leaderboard.collapse import find_symptoms
from alignzoo.runs.sweep_status import State
from alignzoo.study.members import Member
from alignzoo.study.protocol import Protocol
from alignzoo.study.settings import Settings
from alignzoo.study.validation import read_validation
from alignzoo.system.files import write_atomically
from alignzoo.system.parsing import parse_file

FILE = "winners.yaml"  #: in the study's folder, written once


@dataclass(frozen=True)
class Trial:
    """One trial as tuning sees it."""

    member: Member
    values: Mapping[str, float]
    score: float | None
    """The study's number on the validation rows; None without a result."""

    out: str
    """Why it cannot win; empty where it can."""

    seconds: float = 0.0
    """What it cost, where it is known."""

    @property
    def is_collapsed(self) -> bool:
        """Whether its completions collapsed."""
        return self.out.startswith("collapsed")


def is_better(number: str, one: float, other: float) -> bool:
    """Tell whether one value of the number is better than another."""
    return one < other if NUMBERS[number].better == "low" else one > other


def read_trials(protocol: Protocol, members: Sequence[Member]) -> dict[str, list[Trial]]:
    """Return each method's trials, in their order."""
    found: dict[str, list[Trial]] = {method: [] for method in protocol.settings.methods}
    for member in members:
        values = protocol.trials[member.method][member.trial]
        found[member.method].append(_read_trial(member, values, protocol.settings))
    return found


def _read_trial(member: Member, values: Mapping[str, float], settings: Settings) -> Trial:
    measured = read_validation(member.run) if member.run and member.state is State.DONE else None
    if measured is None:
        reason = member.run.reason if member.run and member.state is State.DONE else member.detail
        return Trial(member, values, None, f"{member.state}: {reason}" if reason else str(member.state))
    score = measured["after"].get(settings.number)
    seconds = float(measured.get("cost", {}).get("total_seconds", 0.0))
    return Trial(member, values, score, _find_fault(measured, score, settings), seconds)


def _find_fault(measured: Mapping[str, Any], score: float | None, settings: Settings) -> str:
    """Return why a trial with a result cannot win, or an empty text."""
    symptoms = find_symptoms(measured)
    if symptoms:
        return f"collapsed: {', '.join(symptoms)}"
    if score is None or score != score:
        return f"{settings.number} was not measured"
    for key, limits in settings.guardrails.items():
        value = measured["after"].get(key)
        if value is not None and not limits.get("least", value) <= value <= limits.get("most", value):
            return f"guardrail: {NUMBERS[key].label} is {NUMBERS[key].form.format(value)}"
    return ""


def pick_winner(trials: Sequence[Trial], number: str) -> Trial | None:
    """Return the best trial that can win, the earliest of equal ones; None where none can."""
    best: Trial | None = None
    for trial in trials:
        if trial.out or trial.score is None:
            continue
        if best is None or best.score is None or is_better(number, trial.score, best.score):
            best = trial
    return best


def find_edges(protocol: Protocol, method: str, trial: int) -> dict[str, str]:
    """Return the tuned keys of which the trial lies on an edge of the range, with ``low`` or ``high``."""
    values = protocol.trials[method][trial]
    found = {knob.key: knob.find_edge(values[knob.key]) for knob in protocol.spaces[method]}
    return {key: edge for key, edge in found.items() if edge}


def count_faults(trials: Sequence[Trial]) -> Counter[str]:
    """Return how many trials failed, collapsed or broke a guardrail."""
    ended = [trial for trial in trials if trial.member.has_ended and trial.out]
    return Counter(trial.out.partition(":")[0] for trial in ended)


def read_winners(folder: Path) -> dict[str, int] | None:
    """Return the trial that won for each method, from 0 on, once they were picked; a method without one is left out."""
    file = folder / FILE
    return parse_file(file, _parse) if file.is_file() else None


def _parse(text: str) -> dict[str, int]:
    return {str(method): int(found["trial"]) - 1 for method, found in yaml.safe_load(text).items()}


def write_winners(folder: Path, trials: Mapping[str, Sequence[Trial]], number: str) -> dict[str, int]:
    """Pick each method's winner and write them down, once: nothing that is seen later changes them."""
    picked = {method: pick_winner(found, number) for method, found in trials.items()}
    content = {
        method: {"trial": trial.member.trial + 1, "values": dict(trial.values), number: trial.score}
        for method, trial in picked.items()
        if trial is not None
    }
    with write_atomically(folder / FILE) as aside:
        aside.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return {method: trial.member.trial for method, trial in picked.items() if trial is not None}

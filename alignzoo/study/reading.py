"""Reads a study's folder: how far it is, and what it says so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.leaderboard.alignment_tax import TaxColumn, compare_tasks
from alignzoo.runs.folder import Run
from alignzoo.runs.sweep_status import State
from alignzoo.study.answer import write_answer
from alignzoo.study.findings import Findings, read_findings
from alignzoo.study.losses import read_losses
from alignzoo.study.members import Member, Phase, list_testing, list_tuning, read_members
from alignzoo.study.overlap import describe_overlap
from alignzoo.study.protocol import Protocol, read_protocol
from alignzoo.study.selection import Trial, count_faults, find_edges, read_trials, read_winners
from alignzoo.study.tuning_curve import Point, compute_tuning_curve, describe_leaders


@dataclass(frozen=True)
class Study:
    """A study as its folder has it."""

    folder: Path
    protocol: Protocol
    losses: Mapping[str, Mapping[str, Any]]
    tuning: Sequence[Member]
    winners: Mapping[str, int] | None
    """Method -> trial, from 0 on; None before they were picked."""

    testing: Sequence[Member]

    @classmethod
    def read(cls, folder: Path) -> Study:
        """Read it.

        Raises:
            UserError: the folder holds no study.
        """
        protocol = read_protocol(folder)
        winners = read_winners(folder)
        tuning = read_members(folder, Phase.TUNE, list_tuning(protocol))
        testing = [] if winners is None else read_members(folder, Phase.TEST, list_testing(protocol, winners))
        return cls(folder, protocol, read_losses(folder), tuning, winners, testing)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to run."""
        return self.winners is not None and all(member.has_ended for member in self.testing)

    @cached_property
    def trials(self) -> dict[str, list[Trial]]:
        """Each method's trials."""
        return read_trials(self.protocol, self.tuning)

    @cached_property
    def curves(self) -> dict[str, list[Point]]:
        """Each method's tuning curve, of the trials that have ended."""
        better = NUMBERS[self.protocol.settings.number].better
        return {method: compute_tuning_curve(_list_scores(found), better) for method, found in self.trials.items()}

    @cached_property
    def findings(self) -> Findings | None:
        """What the test says, of the runs that are finished."""
        runs: dict[str, list[Run]] = {}
        for member in self.testing:
            if member.run and member.state is State.DONE and member.run.result is not None:
                runs.setdefault(member.method, []).append(member.run)
        return read_findings(runs, self.protocol.settings) if runs else None

    @cached_property
    def tax(self) -> list[TaxColumn]:
        """The benchmarks that the test's runs measured, each beside the start model's."""
        found = self.findings.methods if self.findings else ()
        return compare_tasks([one.row for one in found if one.row is not None])

    @property
    def answer(self) -> str:
        """What it says, in a sentence or two."""
        return write_answer(self.findings, self.protocol.settings, self.is_complete)

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing it."""
        found = [*self._list_edges(), *self._list_without_winner(), *self._list_faults(), *self._list_kept_out()]
        return [*found, *describe_overlap(self.tuning), *self._list_leaders()]

    def _list_leaders(self) -> list[str]:
        better = NUMBERS[self.protocol.settings.number].better
        told = "" if self.winners is None else describe_leaders(self.curves, better)
        return [told] if told else []

    def _list_edges(self) -> list[str]:
        found = []
        for method, trial in (self.winners or {}).items():
            for key, edge in find_edges(self.protocol, method, trial).items():
                value = self.protocol.trials[method][trial][key]
                found.append(
                    f"{method}: its best {key}, {value:g}, lies on the {edge} edge of the range: a study with "
                    f"study.widen={3 * self.protocol.settings.widen:g} widens the ranges of all methods alike."
                )
        return found

    def _list_without_winner(self) -> list[str]:
        if self.winners is None:
            return []
        lost = [method for method in self.protocol.settings.methods if method not in self.winners]
        return [f"{method}: no trial can win, and it is not in the test." for method in lost]

    def _list_faults(self) -> list[str]:
        found = []
        for method, trials in self.trials.items():
            for fault, count in count_faults(trials).items():
                found.append(f"{method}: {count} of {len(trials)} trials: {fault}.")
        lost = Counter(member.method for member in self.testing if member.state is State.FAILED)
        return found + [f"{method}: {count} of the test's runs failed." for method, count in lost.items()]

    def _list_kept_out(self) -> list[str]:
        kept = self.findings.kept_out if self.findings else {}
        return [f"{method} is kept out of the test: {why}." for method, why in kept.items()]


def _list_scores(trials: Sequence[Trial]) -> list[float | None]:
    """Return the scores of the trials that have ended; None: one that cannot win."""
    return [None if trial.out else trial.score for trial in trials if trial.member.has_ended]

"""Compares the runs of a sweep, or any runs: one row for each method and setting, with its difference to the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignzoo.config.metrics import NUMBERS
from alignzoo.report.leaderboard.alignment_tax import TaxColumn, compare_tasks
from alignzoo.report.leaderboard.comparable import keep_out
from alignzoo.report.leaderboard.comparisons import Question, compare_rows
from alignzoo.report.leaderboard.judges import describe_judges
from alignzoo.report.leaderboard.rows import Row, label_runs, make_rows
from alignzoo.report.leaderboard.same_data import mark_other_data
from alignzoo.report.leaderboard.verdict import write_verdict
from alignzoo.report.selection import describe_selection
from alignzoo.runs.find_runs import read_runs
from alignzoo.runs.folder import Run
from alignzoo.runs.generation import describe_generations, is_generation
from alignzoo.system.errors import UserError, did_you_mean

DEFAULT = "margin_token"  #: where no run says what its objective was


@dataclass(frozen=True)
class Failed:
    """A run without a result, and why."""

    method: str
    setting: str
    folder: Path
    reason: str

    @property
    def name(self) -> str:
        """Method and setting."""
        return f"{self.method} {self.setting}".strip()


@dataclass(frozen=True)
class Leaderboard:
    """Runs compared by one number of :data:`~alignzoo.config.metrics.NUMBERS`."""

    question: Question
    rows: Sequence[Row]
    """Best first; where the number was not measured, last."""

    failed: Sequence[Failed]
    verdict: str
    """In one or two sentences: what won, or that nothing did."""

    notes: Sequence[str]
    """What makes the comparison unfair."""

    limits: Sequence[str]
    """What the comparison can show, and of what it holds."""

    runs: Sequence[Run]
    """All of them, for their curves."""

    pruned: Sequence[Failed] = ()
    """The runs that were ended before their time, as they had fallen behind."""

    generated: Sequence[str] = ()
    """What was generated in the runs' folders to train on, a line each."""

    tax: Sequence[TaxColumn] = ()
    """The benchmarks that were measured, each beside the start model's."""

    @property
    def by(self) -> str:
        """The number that it is sorted by."""
        return self.question.by


def read_leaderboard(
    folders: Sequence[Path], by: str | None = None, against: str | None = None, within: float | None = None
) -> Leaderboard:
    """Return the leaderboard of the runs in ``folders``, by the number ``by`` or else by the runs' own objective.

    Args:
        folders: of runs, or with runs below them.
        by: a key of :data:`~alignzoo.config.metrics.NUMBERS`.
        against: the name of a row, or of its method: all others are compared with it, and not with the best.
        within: the difference within which settings count as equal, as tables show it: of shares in points.

    Raises:
        UserError: a folder holds no runs, the number is unknown or was measured by none, or no row is called so.
    """
    if by is not None and by not in NUMBERS:
        raise UserError(f"--by {by}: no such number.{did_you_mean(by, NUMBERS)} `alignzoo evaluate --explain` has all.")
    runs = [run for run in read_runs(folders) if not is_generation(run.folder)]
    finished = [run for run in runs if run.result is not None]
    rows = make_rows(finished, label_runs(runs, seeds=False))
    chosen, notes = _choose_number(by, rows, finished)
    question = Question(chosen, against, within)
    rows, other = mark_other_data(_sort(rows, chosen))
    rows, limits = compare_rows(keep_out(rows, chosen), question)
    if selection := describe_selection([run.result for run in finished if run.result]):
        notes = [*notes, selection]
    doubts, agreement = describe_judges(finished)
    generated = describe_generations(folders)
    return Leaderboard(
        question,
        rows,
        _list_without_result(runs, pruned=False),
        write_verdict(rows, question) if runs or not generated else "Nothing was trained.",
        [*notes, *other, *doubts],
        [*limits, *agreement],
        runs,
        _list_without_result(runs, pruned=True),
        generated,
        compare_tasks(rows),
    )


def _list_without_result(runs: Sequence[Run], pruned: bool) -> list[Failed]:
    labels = label_runs(runs, seeds=True)
    found = [run for run in runs if run.result is None and (run.pruned is not None and run.error is None) is pruned]
    return [Failed(run.method, labels[run], run.folder, run.reason) for run in found]


def _choose_number(by: str | None, rows: Sequence[Row], runs: Sequence[Run]) -> tuple[str, list[str]]:
    """Return the number to sort by, and notes on that choice."""
    measured = [key for key in NUMBERS if any(key in row.numbers for row in rows)]
    if by is not None:
        if measured and by not in measured:
            raise UserError(f"--by {by}: no run measured it. Measured: {', '.join(measured)}.")
        return by, []
    wanted = Counter((run.result or {}).get("objective", DEFAULT) for run in runs)
    usable = [key for key, _ in wanted.most_common() if key in measured]
    chosen = usable[0] if usable else next(iter(measured), DEFAULT)
    several = len(wanted) > 1
    return chosen, [f"The runs have different objectives ({', '.join(wanted)}); sorted by {chosen}."] if several else []


def _sort(rows: Sequence[Row], by: str) -> list[Row]:
    sign = 1 if NUMBERS[by].better == "low" else -1

    def place(row: Row) -> tuple[bool, float]:
        return (by not in row.numbers, sign * row.numbers[by].value if by in row.numbers else 0.0)

    return sorted(rows, key=place)

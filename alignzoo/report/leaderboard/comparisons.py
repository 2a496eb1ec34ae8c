"""Compares a leaderboard's settings with the best of them or with a baseline, all at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alignzoo.config.metrics import NUMBERS
from alignzoo.data.near_equal import cluster_texts
from alignzoo.evaluate.intervals import Column
from alignzoo.evaluate.metrics import collect_values
from alignzoo.evaluate.simultaneous import Comparisons, compare_settings
from alignzoo.report.leaderboard.rows import Row
from alignzoo.system.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Question:
    """What a leaderboard is asked."""

    by: str
    against: str | None = None
    """The baseline's name, or None: every setting is compared with the best."""

    within: float | None = None
    """The difference within which settings count as equal, as tables show it: of shares in points."""

    @property
    def distance(self) -> float | None:
        """:attr:`within`, in the number's own unit."""
        return None if self.within is None else self.within / (100 if NUMBERS[self.by].form.endswith("%}") else 1)


def compare_rows(rows: Sequence[Row], question: Question) -> tuple[list[Row], list[str]]:
    """Give each row that can be compared its difference to the best, or to the baseline; say what can be seen.

    Raises:
        UserError: the baseline is not among the rows, or cannot be compared.
    """
    if not rows:
        return [], []
    baseline = None if question.against is None else find_row(rows, question.against, question.by)
    places = [place for place, row in enumerate(rows) if question.by in row.numbers and not row.kept_out]
    if not places:
        return list(rows), []
    compared = [rows[place] for place in places]
    values, prompts = collect_shared(compared, question.by)
    if not prompts:
        return list(rows), []
    marked, found = compare_values(
        compared, values, prompts, question, None if baseline is None else places.index(baseline)
    )
    told = dict(zip(places, marked, strict=True))
    return [told.get(place, row) for place, row in enumerate(rows)], describe_limits(found, compared, question)


def compare_values(
    rows: Sequence[Row],
    values: Sequence[Column],
    prompts: Sequence[Hashable],
    question: Question,
    anchor: int | None = None,
) -> tuple[list[Row], Comparisons]:
    """Give each row its difference to the best, or to the one at the place ``anchor``.

    Args:
        rows: those that are compared.
        values: of each row (seeds, prompts).
        prompts: what tells them apart; rows with the same are one prompt.
        question: what is asked.
        anchor: the baseline's place.
    """
    found = compare_settings(values, prompts, anchor, 1.0 if NUMBERS[question.by].kind == "share" else 0.0)
    first = _find_best(rows, found.means, question.by) if anchor is None else anchor
    return [_compare(row, found, place, first, question) for place, row in enumerate(rows)], found


def find_row(rows: Sequence[Row], name: str, by: str) -> int:
    """Return the place of the row that is called so, or of the only row of that method.

    Raises:
        UserError: there is none, or several, or it cannot be compared.
    """
    found = [place for place, row in enumerate(rows) if row.name == name]
    found = found or [place for place, row in enumerate(rows) if row.method == name]
    if not found:
        names = [row.name for row in rows]
        raise UserError(f"--against {name}: no such setting.{did_you_mean(name, names)} There are: {', '.join(names)}.")
    if len(found) > 1:
        raise UserError(f"--against {name}: name one of {', '.join(repr(rows[place].name) for place in found)}.")
    row = rows[found[0]]
    why = row.kept_out or ("" if by in row.numbers else f"{by} was not measured")
    if why:
        raise UserError(f"--against {name}: it cannot be compared: {why}.")
    return found[0]


def collect_shared(rows: Sequence[Row], by: str) -> tuple[list[Column], list[int]]:
    """Return what each row's runs say of the number, (seeds, prompts), on the prompts that all share, and clusters.

    Near-equal prompts have the same cluster: :mod:`alignzoo.data.near_equal`.
    """
    lines = [[run.by_prompt for run in row.runs] for row in rows]
    shared = [key for key in lines[0][0] if all(key in run for runs in lines for run in runs)]
    found = [[collect_values(by, [run[key] for key in shared]) for run in runs] for runs in lines]
    values = [np.stack([one for one in runs if one is not None]) for runs in found] if shared else []
    return values, cluster_texts([prompt for _, prompt in shared])


def _find_best(rows: Sequence[Row], means: Column, by: str) -> int:
    """Return the place of the best row, of those that did not collapse where there are any."""
    sign = -1 if NUMBERS[by].better == "low" else 1
    whole = [place for place, row in enumerate(rows) if not row.collapsed] or range(len(rows))
    return max(whole, key=lambda place: (sign * means[place], -place))


def _compare(row: Row, found: Comparisons, here: int, first: int, question: Question) -> Row:
    if here == first:
        return replace(row, best=question.against is None, baseline=question.against is not None)
    distance = question.distance
    equal = found.is_equal(here, first)
    return replace(
        row,
        difference=found.subtract(here, first),
        equal=equal,
        equivalent=distance is not None and (equal or found.is_within(here, first, distance)),
    )


def describe_limits(found: Comparisons, rows: Sequence[Row], question: Question) -> list[str]:
    """Return in sentences what the comparisons can show, and of what they hold."""
    if len(rows) < 2:
        return []
    limits = [_describe_smallest(found, len(rows), question.by)]
    if found.prompts < found.needed:
        return limits
    if all(row.seeds == 1 for row in rows):
        limits.append("One seed each: a difference is one between these runs, which other seeds may change.")
    elif any(row.seeds == 1 for row in rows):
        limits.append("Settings with one seed are taken to vary between seeds as the others do.")
    if question.against is None and NUMBERS[question.by].better:
        limits.append("The best was chosen on these prompts: its own value tends to be too good.")
        limits += _describe_choice(rows, question.by)
    return limits


def _describe_choice(rows: Sequence[Row], by: str) -> list[str]:
    """Name what the validation rows choose, whose own value has no such bias."""
    if not all(by in row.validation for row in rows):
        return []
    best = rows[_find_best(rows, np.array([row.validation[by] for row in rows]), by)]
    value = NUMBERS[by].form.format(best.numbers[by].value)
    return [f"On the validation rows {best.name} is the best: its value here, {value}, was not chosen by."]


def _describe_smallest(found: Comparisons, settings: int, by: str) -> str:
    count = len(found.pairs)
    corrected = f"corrected for {count} comparisons" if count > 1 else "one comparison"
    if found.prompts < found.needed:
        return (
            f"No difference can be told: {found.prompts} prompts are too few for {settings} settings. "
            f"At least {found.needed} must differ."
        )
    if found.smallest is None:
        return "What difference these prompts could show is not known: the settings differ on none of them."
    size = format_size(found.smallest, by)
    return f"Smallest difference that {found.prompts} prompts show: {size} (80 % power, two-sided 5 %, {corrected})."


def format_size(size: float, by: str) -> str:
    """Return a difference without its sign, as tables show it; of percentages in points."""
    form = NUMBERS[by].form
    return f"{100 * size:.1f} points" if form.endswith("%}") else form.replace(":+", ":").format(size)

"""Reads what a pair may have beside its two answers, and finds it for methods: a margin, and a third answer, gold.

A margin says by how much the chosen answer is better: the file's own column ``margin``, or the difference of the two
answers' scores. ``gold`` is an answer that is imitated, whatever the pair prefers (TPO, Saeidi et al., 2024,
https://arxiv.org/abs/2405.16681, y_gold; in TRL's datasets the column ``reference``, a word that here means the model
that a policy is compared with).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from alignzoo.data.messages import BadRow
from alignzoo.plugin.method import FURTHER
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 10_000  #: rows read at once

#: Columns with the scores of chosen and rejected, as datasets name them.
SCORES = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
)


def read_further(row: Mapping[str, Any], columns: frozenset[str]) -> dict[str, Any]:
    """Return the row's ``margin`` and ``gold``, where it has them; ``columns`` are those that its layout reads.

    Raises:
        BadRow: the margin, or a score, is not a number.
    """
    found = {"gold": row["gold"]} if "gold" in columns and row.get("gold") is not None else {}
    if "margin" not in columns:
        return found
    margin = _read_margin(row["margin"]) if row.get("margin") is not None else _subtract_scores(row)
    return found if margin is None else {**found, "margin": margin}


def _read_margin(value: Any) -> float:
    number = _read_number(value)
    if number is None:
        raise BadRow(f"margin is {value!r}; it must be a number")
    return number


def _subtract_scores(row: Mapping[str, Any]) -> float | None:
    for names in SCORES:
        if not row.keys() >= {*names}:
            continue
        chosen, rejected = (_read_score(row[name], name) for name in names)
        if chosen is not None and rejected is not None:
            return chosen - rejected
    return None


def _read_score(value: Any, name: str) -> float | None:
    """Return a score, or None where the value is null or NaN."""
    number = _read_number(value)
    if number is None and value not in (None, "") and not (isinstance(value, float) and math.isnan(value)):
        raise BadRow(f"{name} is {value!r}; it must be a number")
    return number


def find_single_scores(columns: frozenset[str]) -> frozenset[str]:
    """Return the columns with a score of one of the two answers, which gives no margin."""
    return frozenset(name for names in SCORES if len(columns & {*names}) == 1 for name in columns & {*names})


def _read_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def has_column(pairs: Dataset, column: str, needed: bool) -> bool:
    """Tell whether every pair has a value in a column of :data:`FURTHER`; all may lack it unless it is ``needed``.

    Raises:
        UserError: some pairs lack it, or all do and it is needed.
    """
    import numpy as np

    if column not in FURTHER:
        raise UserError(f"the method's further_columns names {column!r}; pairs can have {', '.join(FURTHER)}.")
    values = pairs.select_columns([column]).with_format("arrow") if column in pairs.column_names else None
    missing = [batch.column(column).is_null().to_numpy() for batch in values.iter(BATCH)] if values is not None else []
    lacking = np.flatnonzero(np.concatenate(missing)) if missing else np.arange(len(pairs))
    name = column.removesuffix("_ids")
    if len(lacking) and (needed or len(lacking) < len(pairs)):
        first = pairs[int(lacking[0])]["id"]
        advice = f"Add a column `{name}` to the data, or map yours: 'dataset.columns={{YOURS: {name}}}'."
        if len(lacking) < len(pairs):
            without = "" if needed else f", or leave it out: 'dataset.columns={{{name}: null}}'"
            advice = f"Fill in `{name}` in all rows{without}."
        raise UserError(
            f"the method trains on a {FURTHER[column]}: {len(lacking)} of {len(pairs)} pairs have none, as {first}.\n"
            f"{advice}"
        )
    return not len(lacking)

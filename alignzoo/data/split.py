"""Divides rows into those to train on, to select on (validation) and to report on (held out), by their prompts.

A prompt, and all that are near-equal to it, stands on one side alone, whichever rows a side names: held-out rows come
before validation rows, and both before training rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.data.arrow_cache import NEAR, read_said
from alignzoo.data.near_equal import cluster
from alignzoo.data.sources import MEASURED
from alignzoo.data.tokenise import ANSWERS

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from omegaconf import DictConfig

FRACTION_STEPS = 1_000_000  #: resolution of `dataset.heldout.fraction`

#: Why a row is left out whose prompt, or text without one, a side has; and one that is near-equal to it.
TAKEN = {
    "heldout": ("its prompt is held out", "its text is held out", "a near-equal prompt is held out"),
    "validation": (
        "its prompt is for validation",
        "its text is for validation",
        "a near-equal prompt is for validation",
    ),
}
#: All of them.
LEFT_OUT = tuple(reason for reasons in TAKEN.values() for reason in reasons)


@dataclass(frozen=True)
class Table:
    """Rows of one or more sources, and what :func:`alignzoo.data.prepare.prepare` knows of each."""

    rows: Dataset
    facts: pd.DataFrame


def mark_clusters(tables: Sequence[Table]) -> None:
    """Give the facts of all rows a column ``cluster``, the same for near-equal prompts of all tables.

    It is the least ``heldout_key`` of them: that of the prompt itself where no other is near-equal.
    """
    import pandas as pd

    facts = pd.concat([table.facts[["heldout_key", *NEAR]] for table in tables], ignore_index=True)
    ends = list(accumulate(len(table.rows) for table in tables))
    texts = [table.rows.select_columns(["prompt", *ANSWERS]) for table in tables]  # token ids are slow to read

    def read_text(place: int) -> str:
        number = next(number for number, end in enumerate(ends) if place < end)
        row = texts[number][place - ends[number] + len(texts[number])]
        answers = [json.loads(row[name]) for name in ANSWERS if row[name] is not None]
        return read_said(json.loads(row["prompt"]), answers)

    numbers = cluster(facts["near_key"].to_numpy(), facts[list(NEAR[1:])].to_numpy(), read_text)
    least = facts["heldout_key"].groupby(numbers).transform("min").to_numpy()
    for table, found in zip(tables, np.split(least, ends[:-1]), strict=True):
        table.facts["cluster"] = found


def assign_shares(facts: pd.DataFrame, dataset: DictConfig, apart: Sequence[str]) -> None:
    """Give the training rows' facts a column ``side``: which prompts are held out, or for validation, as a share.

    Both are chosen by the prompts' hash, whatever order, seed and method, and neither share moves the other. Rows that
    cannot be used, which have no hash, stay.
    ``apart``: the sides that have a source of their own.
    """
    places = facts["cluster"].to_numpy() % FRACTION_STEPS
    shares = {side: 0 if side in apart else dataset[side].fraction * FRACTION_STEPS for side in MEASURED}
    usable = facts["reason"].to_numpy() == ""
    chosen = places < shares["heldout"], places >= FRACTION_STEPS - shares["validation"]
    facts["side"] = np.select([one & usable for one in chosen], list(MEASURED), "train")


def take_side(side: str, table: Table, train: pd.DataFrame, taken: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Return the facts of the rows of a side, at most ``rows``; write into the others' why they are left out.

    Args:
        side: of :data:`~alignzoo.data.sources.MEASURED`.
        table: the side's own rows, or the training rows, of which it is a share.
        train: facts of the training rows.
        taken: facts of the rows of the side before, whose prompts this one cannot have.
        rows: ``dataset.SIDE.rows``.
    """
    is_share = table.facts is train
    usable = table.facts["reason"] == ""
    if is_share:
        usable &= table.facts["side"] == side
    elif len(taken):
        leave_out(table.facts, usable, taken, "heldout")
        usable &= table.facts["reason"] == ""
    found = table.facts[usable]
    if is_share and len(found):  # the first by hash, whatever their order
        found = found.sort_values("heldout_key", kind="stable").head(rows).sort_index()
    else:
        found = found.head(rows)
    leave_out(train, (train["side"] != side) & (train["reason"] == ""), found, side)
    return found


def leave_out(facts: pd.DataFrame, among: Any, taken: pd.DataFrame, side: str) -> None:
    """Write into ``facts`` why rows are left out: the side of the rows ``taken`` has their prompt, or a near-equal one.

    ``among``: which rows of ``facts`` are looked at, as booleans.
    """
    leaked = among & facts["cluster"].isin(taken["cluster"])
    if not leaked.any():
        return
    prompt, text, near = TAKEN[side]
    found = facts.loc[leaked]
    same = np.where(found["has_prompt"], prompt, text)
    facts.loc[leaked, "reason"] = np.where(found["heldout_key"].isin(taken["heldout_key"]), same, near)

"""Makes pairs, or single good answers, of the scored answers to each prompt; ties are left out and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignzoo.config.generation import PAIRED
from alignzoo.evaluate.completions import Completion
from alignzoo.system.errors import UserError

#: Why a prompt gives no row: its answers tie, or none may be chosen (all cut off, empty, or below `generate.least`).
TIES, UNFIT = "ties", "unfit"


@dataclass(frozen=True)
class Scored:
    """One answer and its score."""

    answer: Completion
    score: float

    @property
    def text(self) -> str:
        """What it says, without the blanks around it."""
        return self.answer.text.strip()


@dataclass(frozen=True)
class Chosen:
    """One row: the chosen answer to the prompt at ``place``, and the rejected one where pairs are made."""

    place: int
    chosen: Scored
    rejected: Scored | None = None


@dataclass(frozen=True)
class Selection:
    """The rows of all prompts, and how many prompts gave none, by reason."""

    rows: list[Chosen]
    left_out: Counter[str]


def select(answers: Sequence[Sequence[Scored]], keys: Mapping[str, Any]) -> Selection:
    """Return the rows that ``keys``, the group ``generate``, keeps of the answers to each prompt."""
    rows: list[Chosen] = []
    left_out: Counter[str] = Counter({TIES: 0, UNFIT: 0})
    for place, scored in enumerate(answers):
        said = [one for one in scored if one.text]
        fit = [one for one in said if _may_be_chosen(one, keys)]
        made = _make_rows(place, fit, said, keys)
        rows += made
        if not made:
            left_out[TIES if fit else UNFIT] += 1
    return Selection(rows, left_out)


def _may_be_chosen(one: Scored, keys: Mapping[str, Any]) -> bool:
    return (one.answer.ended or keys["allow_cut_off"]) and (keys["least"] is None or one.score >= keys["least"])


def _make_rows(place: int, fit: Sequence[Scored], said: Sequence[Scored], keys: Mapping[str, Any]) -> list[Chosen]:
    """Return the rows of one prompt; ``fit`` are the answers that may be chosen, ``said`` those that say anything."""
    if not fit:
        return []
    if keys["keep"] == "all_good":
        return [Chosen(place, one) for one in {one.text: one for one in fit}.values()]
    best = max(fit, key=lambda one: one.score)  # of equal ones the first
    if keys["keep"] == "best":
        return [Chosen(place, best)]
    if keys["keep"] == "best_worst":
        fit, said = [best], [min(said, key=lambda one: one.score)]
    pairs = {(one.text, other.text): (one, other) for one in fit for other in said if _beats(one, other, keys)}
    return [Chosen(place, *pair) for pair in pairs.values()]


def _beats(one: Scored, other: Scored, keys: Mapping[str, Any]) -> bool:
    return one.score - other.score > keys["margin"] and one.text != other.text


def check_spread(answers: Sequence[Sequence[Scored]], keep: str, scorer: str) -> None:
    """Refuse scores that tell no answer from another.

    Raises:
        UserError: each prompt's answers all have one score; ``scorer`` names what gave it.
    """
    count = len(answers[0])
    if count == 1 or keep == "all_good" or any(len({one.score for one in scored}) > 1 for scored in answers):
        return
    raise UserError(
        f"{scorer} gives all {count} answers to a prompt the same score, for each of {len(answers):,} prompts: take "
        "another one, or raise generate.samples or generate.temperature."
    )


def check_rows(selection: Selection, answers: Sequence[Sequence[Scored]], keys: Mapping[str, Any], limit: int) -> None:
    """Refuse a selection without rows.

    Raises:
        UserError: says what left the answers out.
    """
    if selection.rows:
        return
    every = [one for scored in answers for one in scored]
    ended = sum(one.answer.ended for one in every)
    if not ended and not keys["allow_cut_off"]:
        raise UserError(
            f"none of {len(every):,} answers ended within {limit} tokens, so that none is chosen: raise "
            "generate.max_new_tokens, or add generate.allow_cut_off=true."
        )
    best = max(one.score for one in every)
    what = "pair" if keys["keep"] in PAIRED else "answer"
    ask = ", ".join(f"generate.{key}={keys[key]}" for key in ("margin", "least") if keys[key])
    raise UserError(
        f"no {what} is left of {len(every):,} answers ({ended:,} ended, best score {best:.3g}"
        f"{f'; {ask}' if ask else ''}): raise generate.samples, or lower what is asked of them."
    )

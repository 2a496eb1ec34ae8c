"""Checks prepared data for what is wrong or odd, before every training and for ``alignzoo check``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alignzoo.data.generated import REPLACED
from alignzoo.data.prepare import ONE_PROMPT
from alignzoo.data.split import LEFT_OUT
from alignzoo.data.text_features import Column, Features, read_features
from alignzoo.plugin.method import DataFormat

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from alignzoo.data.prepare import Prepared

SHOWN_ROWS = 5  #: row numbers that a finding names
LENGTH_RULE = 0.70  #: share of pairs that "the longer (or shorter) wins" gets right, from which it is worth a warning
SKEW = 0.05  #: difference between the shares of chosen and rejected answers, from which it is worth a warning
#: (desirable weight x good) / (undesirable weight x bad), KTO paper section 4.1, equation 9
KTO_RANGE = (Fraction(1), Fraction(4, 3))


class Level(StrEnum):
    """How grave a finding is: an error stops a training, a warning is printed, a note is only in the report."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing found: how grave, what, how many rows, which (numbers in the source), and what to do."""

    level: Level
    check: str
    text: str
    count: int = 0
    rows: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        named = (
            f" (rows {', '.join(map(str, self.rows))}{' ...' if self.count > len(self.rows) else ''})"
            if self.rows
            else ""
        )
        return f"{self.text}{named}"


def inspect(
    data: Prepared,
    weights: tuple[float, float] = (1.0, 1.0),
    most: int | None = None,
    features: Features | None = None,
) -> list[Finding]:
    """Return what the checks find in the training rows, gravest first.

    Args:
        data: prepared rows.
        weights: KTO's desirable and undesirable weights, for its rule about unbalanced labels.
        most: look at the texts of this many rows at most; None: of all.
        features: what :func:`~alignzoo.data.text_features.read_features` returned for the rows, if called before.
    """
    seen = features or read_features(
        data.train if most is None else data.train.select(range(min(most, len(data.train))))
    )
    found = [
        *_check_dropped(data),
        *_check_duplicates(data, seen),
        *_check_overlap(data, seen),
        *_check_repeated_prompts(seen),
        *_check_length_bias(data, seen),
    ]
    found += [*_check_marks(seen), *_check_label_balance(data, weights), *_check_heldout(data)]
    return sorted(found, key=lambda finding: list(Level).index(finding.level))


def findings(
    cfg: DictConfig, data: Prepared, stops: bool, most: int | None = None, features: Features | None = None
) -> list[Finding]:
    """Return what :func:`inspect` finds; rows that cannot be trained on are errors where ``stops``."""
    weights = cfg.method.get("desirable_weight", 1.0), cfg.method.get("undesirable_weight", 1.0)
    found = inspect(data, weights, most, features)
    grave = [f for f in found if stops and f.check == "left out" and "train.max_length" not in f.text]
    errors = [Finding(Level.ERROR, f.check, f.text, f.count, f.rows) for f in grave]
    return [*errors, *(f for f in found if f not in grave)]


def verdict(found: Sequence[Finding]) -> str:
    """Return errors, warnings or fine."""
    levels = {finding.level for finding in found}
    return "errors" if Level.ERROR in levels else "warnings" if Level.WARNING in levels else "fine"


def _make_finding(level: Level, check: str, text: str, rows: Sequence[int] | Column) -> Finding:
    return Finding(level, check, text, len(rows), [int(row) for row in rows[:SHOWN_ROWS]])


def _check_dropped(data: Prepared) -> Iterator[Finding]:
    """Rows left out for what they hold (an error is raised earlier while dataset.bad_rows=stop)."""
    ours = ("beyond", REPLACED, *LEFT_OUT)
    dropped = data.manifest[(data.manifest["decision"] == "dropped") & ~data.manifest["reason"].str.startswith(ours)]
    reasons = dropped["reason"].str.replace(r" \(\d+ tokens\)", "", regex=True)
    for reason, group in dropped.groupby(reasons):
        share = len(group) / len(data.manifest)
        text = f"{len(group):,} rows ({share:.1%}) are left out: {reason}"
        yield _make_finding(Level.WARNING, "left out", text, list(group["row"]))


def _check_duplicates(data: Prepared, seen: Features) -> Iterator[Finding]:
    train = data.manifest[data.manifest["decision"] == "train"]
    again = train[train["tokens"].duplicated()]
    if len(again):
        yield _make_finding(
            Level.WARNING, "duplicates", f"{len(again):,} rows repeat an earlier one", list(again["row"])
        )
    near = seen.rows[(pd.Series(seen.plain).duplicated() & ~pd.Series(seen.prompt).duplicated()).to_numpy()]
    if len(near):
        text = f"{len(near):,} prompts equal an earlier one but for case, digits, punctuation or blanks"
        yield _make_finding(Level.WARNING, "near-duplicates", text, near)


def _check_overlap(data: Prepared, seen: Features) -> Iterator[Finding]:
    """Held-out prompts that stand in the training rows too, near enough to be learned."""
    held = read_features(data.heldout).plain
    shared = seen.rows[np.isin(seen.plain, held[held != 0])]
    if len(shared):
        text = f"{len(shared):,} training prompts equal a held-out one but for case, digits, punctuation or blanks"
        yield _make_finding(Level.WARNING, "train/held-out overlap", text, shared)


def _check_repeated_prompts(seen: Features) -> Iterator[Finding]:
    for name, repeats in seen.repeats.items():
        leaked = seen.rows[repeats]
        if len(leaked):
            text = f"{len(leaked):,} {name} answers begin with their prompt: the model would learn to repeat questions"
            yield _make_finding(Level.WARNING, "prompt in answer", text, leaked)


def _check_length_bias(data: Prepared, seen: Features) -> Iterator[Finding]:
    """How well "the longer answer wins" alone would do: a method may learn just that."""
    if data.kind is not DataFormat.PREFERENCE or not len(seen.rows):
        return
    chosen, rejected = seen.tokens["chosen"], seen.tokens["rejected"]
    longer, shorter = float((chosen > rejected).mean()), float((chosen < rejected).mean())
    word, share = ("longer", longer) if longer >= shorter else ("shorter", shorter)
    text = (
        f"the {word} answer is chosen in {share:.0%} of the pairs "
        f"(chosen {chosen.mean():.0f} tokens on average, rejected {rejected.mean():.0f})"
    )
    if share >= LENGTH_RULE:
        yield Finding(Level.WARNING, "length bias", f"{text}: a method may learn length and nothing else")
    else:
        yield Finding(Level.NOTE, "length bias", text)


def _check_marks(seen: Features) -> Iterator[Finding]:
    """Properties that tell chosen from rejected answers without reading them."""
    for what, marked in seen.marks.items():
        if "chosen" not in marked or not len(seen.rows):
            continue
        chosen, rejected = (float(marked[name].mean()) for name in ("chosen", "rejected"))
        if chosen or rejected:
            level = Level.WARNING if abs(chosen - rejected) >= SKEW else Level.NOTE
            yield Finding(level, what, f"{what}: {chosen:.1%} of the chosen, {rejected:.1%} of the rejected answers")


def _check_label_balance(data: Prepared, weights: tuple[float, float]) -> Iterator[Finding]:
    if data.kind is not DataFormat.UNPAIRED or not len(data.train):
        return
    good = int(np.sum(data.train["label"]))
    bad = len(data.train) - good
    if not good or not bad:
        yield Finding(
            Level.WARNING, "labels", f"all {len(data.train):,} answers have one label: KTO needs good and bad ones"
        )
        return
    if not all(0 < weight < math.inf for weight in weights):
        text = "method.desirable_weight and method.undesirable_weight must be above 0: KTO needs good and bad answers"
        yield Finding(Level.WARNING, "labels", text)
        return
    desirable, undesirable = (Fraction(str(weight)) for weight in weights)  # exact, as they were written
    ratio = desirable * good / (undesirable * bad)
    low, high = KTO_RANGE
    text = f"{good:,} good and {bad:,} bad answers; desirable x good over undesirable x bad is {float(ratio):.2f}"
    if low <= ratio <= high:
        yield Finding(Level.NOTE, "labels", text)
        return
    wanted = (
        f"method.desirable_weight={_format_weight(low * undesirable * bad / good, math.ceil)}"
        if good > bad
        else f"method.undesirable_weight={_format_weight(desirable * good / (low * bad), math.floor)}"
    )
    text += f"; for KTO it should be {float(low):.0f} to {float(high):.2f}: set {wanted}"
    yield Finding(Level.WARNING, "labels", text)


def _format_weight(weight: Fraction, rounded: Callable[[Fraction], int]) -> str:
    """Return the weight with two decimals, or two digits that count; rounded to the inside of KTO's range."""
    decimals = max(2, 1 - math.floor(math.log10(weight)))
    return f"{rounded(weight * 10**decimals) / 10**decimals:.{decimals}f}"


def _check_heldout(data: Prepared) -> Iterator[Finding]:
    if not len(data.heldout):
        keys = data.train.select_columns(["heldout_key"]).to_pandas()["heldout_key"]
        one = len(keys) > 1 and keys.nunique() == 1
        advice = ONE_PROMPT if one else "Raise dataset.heldout.fraction, or name a held-out split"
        text = f"no row is held out: nothing can be measured. {advice[0].upper()}{advice[1:]}"
        yield Finding(Level.WARNING, "held-out rows", text)

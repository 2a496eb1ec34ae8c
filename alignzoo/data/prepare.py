"""Decides which rows are trained on and which are held out, the same for every method, and records it row by row."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from operator import or_
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.data.arrow_cache import NEAR, load_table
from alignzoo.data.columns import Unread
from alignzoo.data.decisions import make_manifest
from alignzoo.data.generated import REPLACED, generated_source
from alignzoo.data.row_facts import count_tokens, hash_tokens, read_keys
from alignzoo.data.sources import MEASURED, Source, measured_source, training_sources
from alignzoo.data.split import Table, assign_shares, leave_out, mark_clusters, take_side
from alignzoo.data.tokenise import Tokeniser
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from omegaconf import DictConfig

    from alignzoo.data.layout import Layout
    from alignzoo.plugin.method import DataFormat

#: What to do where all rows have one prompt.
ONE_PROMPT = "one prompt cannot be both trained on and held out: name rows to hold out, dataset.heldout.path=FILE"


@dataclass(frozen=True)
class Prepared:
    """The rows of a run, before they take a method's format."""

    kind: DataFormat
    """What the training rows hold; decides what they can be converted to."""

    train: Dataset
    """Canonical, tokenised rows to train on, in the source's order."""

    heldout: Dataset
    """Canonical, tokenised rows to measure on; may be empty."""

    manifest: pd.DataFrame
    """One line a row read: source, row, id, split, decision, reason, tokens (a hash).

    A decision is train, heldout, validation or dropped.
    """

    layout: Layout
    """How the (first) source's rows are laid out."""

    unread: Unread = field(default_factory=Unread)
    """Columns, and fields of messages, of any source that are not read."""

    validation: Dataset | None = None
    """Canonical, tokenised rows to select on; None or empty where there are none."""

    kind_measured: DataFormat | None = None
    """What the held-out and validation rows hold, where that is not :attr:`kind`: generated rows are trained on."""

    @property
    def measured_kind(self) -> DataFormat:
        """What the held-out and validation rows hold."""
        return self.kind_measured or self.kind


def prepare(cfg: DictConfig, tokeniser: Tokeniser) -> Prepared:
    """Read, check, split and filter the dataset that ``cfg`` names.

    Raises:
        UserError: unusable rows while ``dataset.bad_rows=stop``, or none left to train on.
    """
    parts = [_read(source, part, tokeniser) for source, part in training_sources(cfg.dataset)]
    rows, facts, kind = _join_parts(parts, cfg)
    unread = functools.reduce(or_, (part.layout.unread for part in parts))
    train, tables = Table(rows, facts), {}
    for side in MEASURED:
        source = measured_source(cfg.dataset, side)
        if source is not None:
            part = _read(source, cfg.dataset, tokeniser)
            unread |= part.layout.unread
            tables[side] = _read_side(part, cfg, side, kind)
    made = _read_generated(cfg, tokeniser)
    mark_clusters([train, *tables.values(), *([made[1]] if made else [])])
    assign_shares(facts, cfg.dataset, [*tables])
    found: dict[str, pd.DataFrame] = {}
    for side in MEASURED:
        taken = found.get("heldout", facts[:0])
        found[side] = take_side(side, tables.get(side, train), facts, taken, cfg.dataset[side].rows)
    trained, part = Table(rows, _apply_weights(facts, parts, cfg)), parts[0]
    if made:
        part, trained = made
        _replace_rows(facts, trained.facts, found)
    candidates = trained.facts.index[(trained.facts["reason"] == "") & (trained.facts["side"] == "train")].to_numpy()
    kept = _draw_rows(candidates, cfg.dataset.rows, cfg.seed)
    if not len(kept):
        raise UserError(_explain_nothing_left(trained.facts, cfg))
    manifest = make_manifest(facts, tables, found, trained.facts, kept)
    heldout, validation = (tables.get(side, train).rows.select(found[side].index.to_numpy()) for side in MEASURED)
    chosen, unread = trained.rows.select(kept), part.layout.unread if made else unread
    return Prepared(part.layout.kind, chosen, heldout, manifest, part.layout, unread, validation, kind)


def prepare_measured(cfg: DictConfig, source: Source, tokeniser: Tokeniser) -> Prepared:
    """Return the rows of a source that is only measured on, none of them to train on.

    Raises:
        UserError: unusable rows while ``dataset.bad_rows=stop``, or all are left out.
    """
    part = _read(source, cfg.dataset, tokeniser)
    rows, facts, kind = _join_parts([part], cfg, "heldout")
    found = facts[facts["reason"] == ""]
    if found.empty:
        raise UserError(_explain_nothing_left(facts.assign(side="train"), cfg).replace("train on", "measure on", 1))
    manifest = make_manifest(facts, {}, {"heldout": found}, facts, found.index.to_numpy()[:0])
    nothing, heldout = rows.select(range(0)), rows.select(found.index.to_numpy())
    return Prepared(kind, nothing, heldout, manifest, part.layout, part.layout.unread)


@dataclass(frozen=True)
class Part:
    """One source of a dataset, read; a mixture has several."""

    source: Source
    rows: Dataset
    layout: Layout
    weight: float | None


def _read(source: Source, cfg: DictConfig, tokeniser: Tokeniser) -> Part:
    rows, layout = load_table(source, tokeniser, cfg)
    return Part(source, rows, layout, cfg.get("weight"))


def _join_parts(parts: list[Part], cfg: DictConfig, split: str = "train") -> tuple[Dataset, pd.DataFrame, DataFormat]:
    """Return the rows of all parts, their facts, and what they hold."""
    import datasets
    import pandas as pd

    kinds = {part.layout.kind: part.source.place for part in parts}
    if len(kinds) > 1:
        raise UserError(f"dataset.mix: {' and '.join(f'{place} holds {kind} rows' for kind, place in kinds.items())}.")
    facts = [
        _collect_facts(part.rows, part.source, split, cfg).assign(part=number) for number, part in enumerate(parts)
    ]
    rows = datasets.concatenate_datasets([part.rows for part in parts]) if len(parts) > 1 else parts[0].rows
    return rows, pd.concat(facts, ignore_index=True) if len(facts) > 1 else facts[0], next(iter(kinds))


def _read_side(part: Part, cfg: DictConfig, side: str, kind: DataFormat) -> Table:
    """Return the rows of a source that is measured and not trained on."""
    rows, facts, held_kind = _join_parts([part], cfg, side)
    if held_kind is not kind:
        raise UserError(f"the training rows are {kind} rows, those of {part.source.place} {held_kind} rows.")
    return Table(rows, facts)


def _read_generated(cfg: DictConfig, tokeniser: Tokeniser) -> tuple[Part, Table] | None:
    """Return the rows of ``dataset.generated``, or None where there are none."""
    found = generated_source(cfg.dataset)
    if found is None:
        return None
    part = _read(*found, tokeniser)
    rows, facts, _ = _join_parts([part], cfg)
    return part, Table(rows, facts.assign(side="train"))


def _replace_rows(facts: pd.DataFrame, generated: pd.DataFrame, measured: dict[str, pd.DataFrame]) -> None:
    """Leave out the dataset's training rows, and generated ones with a prompt that is measured."""
    for side, found in measured.items():
        leave_out(generated, generated["reason"] == "", found, side)
    facts.loc[(facts["reason"] == "") & (facts["side"] == "train"), "reason"] = REPLACED


def _apply_weights(facts: pd.DataFrame, parts: list[Part], cfg: DictConfig) -> pd.DataFrame:
    """Leave out rows of the parts that have more than their weight, by the hash that holds out, so that seeds agree."""
    if len(parts) < 2:
        return facts
    usable = facts[(facts["reason"] == "") & (facts["side"] == "train")]
    counts = usable["part"].value_counts()
    for number, part in enumerate(parts):
        if not counts.get(number) and part.weight != 0:
            raise UserError(f"dataset.mix: {_explain_nothing_left(facts[facts['part'] == number], cfg)}")
    weights = {n: counts.get(n, 0) if part.weight is None else part.weight for n, part in enumerate(parts)}
    total = min(counts.get(n, 0) / weight for n, weight in weights.items() if weight)
    for number, weight in weights.items():
        own = usable[usable["part"] == number]
        surplus = own.sort_values("heldout_key", kind="stable").index[round(total * weight) :]
        facts.loc[surplus, "reason"] = "beyond its weight in dataset.mix"
    return facts


def _collect_facts(rows: Dataset, source: Source, split: str, cfg: DictConfig) -> pd.DataFrame:
    """Return row, id, heldout_key, length (tokens of the longest sequence) and the reason to drop it, or ''."""
    frame = rows.select_columns(["row", "id", "problem"]).to_pandas()
    for column in ("heldout_key", *NEAR):
        frame[column] = read_keys(rows, column)
    frame["has_prompt"] = frame["heldout_key"] == read_keys(rows, "prompt_key")
    frame["source"], frame["split"] = source.place, split
    frame["length"] = count_tokens(rows)
    frame["tokens"] = hash_tokens(rows)
    frame["reason"] = frame.pop("problem").fillna("")
    bad = frame[frame["reason"] != ""]
    if len(bad) and cfg.dataset.bad_rows == "stop":
        raise UserError(_describe_bad_rows(bad, source))
    limit = cfg.train.max_length
    long = (frame["reason"] == "") & (frame["length"] > limit)
    frame.loc[long, "reason"] = frame.loc[long, "length"].map(
        lambda n: f"longer than train.max_length={limit} ({n} tokens)"
    )
    return frame


def _describe_bad_rows(bad: pd.DataFrame, source: Source) -> str:
    first = bad.iloc[0]
    more = ", ".join(str(n) for n in bad["row"].iloc[1:6]) + (" ..." if len(bad) > 6 else "")
    others = f" So are {len(bad) - 1} more: {more}." if len(bad) > 1 else ""
    return (
        f"{source.place} row {first['row']} cannot be trained on: {first['reason']}.{others}\n"
        "Mend the data, or set dataset.bad_rows=drop to leave such rows out."
    )


def _explain_nothing_left(facts: pd.DataFrame, cfg: DictConfig) -> str:
    place = facts["source"].iloc[0]
    if (facts["side"] != "train").all():
        one = facts["heldout_key"].nunique() == 1 and len(facts) > 1
        advice = f"They have one prompt; {ONE_PROMPT}." if one else "Lower dataset.heldout.fraction."
        return f"{place}: all {len(facts)} rows are held out. {advice}"
    reason = facts.loc[facts["reason"] != "", "reason"].str.replace(r" \(\d+ tokens\)", "", regex=True).mode()
    hint = f" Its rows have {facts['length'].min()} to {facts['length'].max()} tokens; raise train.max_length." * bool(
        facts["length"].min() > cfg.train.max_length
    )
    return f"{place}: no row of {len(facts)} is left to train on ({', '.join(reason)}).{hint}"


def _draw_rows(candidates: np.ndarray[Any, Any], rows: int | None, seed: int) -> np.ndarray[Any, Any]:
    if rows is None or rows >= len(candidates):
        return candidates
    return np.sort(np.random.default_rng(seed).permutation(candidates)[:rows])

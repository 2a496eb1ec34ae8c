"""Brings prepared rows into the format that a method trains on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.data.further import has_column
from alignzoo.data.prompts import make_prompts
from alignzoo.plugin.method import DataFormat
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

P, U, S, Q, R = (
    DataFormat.PREFERENCE,
    DataFormat.UNPAIRED,
    DataFormat.SUPERVISED,
    DataFormat.PROMPTS,
    DataFormat.SCORED,
)

_IMPOSSIBLE = {
    (S, P): "it has good answers only, and nothing they are better than: try method=sft",
    (S, U): "it has good answers only, and KTO needs bad ones too: try method=sft",
    (Q, P): "it has prompts only, and no answers: try method=grpo",
    (Q, U): "it has prompts only, and no answers: try method=grpo",
    (Q, S): "it has prompts only, and no answers: try method=grpo",
    (R, U): "a score is not a label: add a `label` column, or try a method that learns from pairs",
}

#: What a conversion changes in the meaning of the data.
MEANING = {
    (P, U): "pairs are taken apart: a better answer counts as good and a worse one as bad, a ranking becomes labels",
    (P, S): "of each pair only the chosen answer is trained on",
    (P, Q): "of each pair only the prompt is used",
    (U, P): "good and bad answers to one prompt are paired; prompts with only one of the two are left out",
    (U, S): "only the answers marked good are trained on",
    (U, Q): "only the prompts are used",
    (R, P): "of each prompt's answers the best is paired with the worst; equal scores are left out",
    (R, S): "of each prompt's answers only the best is trained on",
    (R, Q): "only the prompts are used",
    (S, Q): "only the prompts are used",
}


def convert(
    rows: Dataset, kind: DataFormat, wanted: DataFormat, batch: int, seed: int, further: Mapping[str, bool] = {}
) -> Dataset:
    """Return ``rows`` of ``kind`` in the format ``wanted``; :data:`MEANING` says what that changes.

    Args:
        rows: prepared rows (:mod:`alignzoo.data.arrow_cache` names their columns).
        kind: what the dataset holds.
        wanted: what the method trains on.
        batch: rows that a process puts through the model at once; the unpaired format is laid out in blocks of it.
        seed: of the order in which pairs are taken apart.
        further: columns of pairs that the method trains on too (:meth:`alignzoo.Method.further_columns`), and whether
            it needs each; one that no row has is left out.

    Raises:
        UserError: the conversion would have to invent something, or some rows lack a further column.
    """
    if (kind, wanted) in _IMPOSSIBLE:
        raise UserError(f"the dataset holds {kind} rows, the method needs {wanted} rows: {_IMPOSSIBLE[kind, wanted]}.")
    if wanted is P:
        pairs = rows if kind is P else pair_completions(rows, kind)
        found = [name for name, needed in further.items() if has_column(pairs, name, needed)]
        return pairs.select_columns(["id", "prompt_ids", "chosen_ids", "rejected_ids", *found])
    if wanted is U:
        return _to_unpaired(rows, kind, batch, seed)
    return make_prompts(rows) if wanted is Q else _to_supervised(rows, kind)


def pair_completions(rows: Dataset, kind: DataFormat) -> Dataset:
    """Pair answers to the same prompt: good with bad by label, or the best with the worst by score.

    A pair has the further columns of its better answer's row, which rewards read, and the ``margin`` of their scores.

    Raises:
        UserError: no prompt has two answers that differ.
    """
    import datasets

    chosen, rejected = _choose_pairs(rows, kind)
    if not len(chosen):
        better = "a good and a bad answer" if kind is U else "two answers with different scores"
        raise UserError(f"the dataset holds {kind} rows, and no prompt has {better}: nothing can be paired.")
    kept = ["id", "prompt", "prompt_key", "prompt_ids", "extra", "template_inputs", "completion", "completion_ids"]
    first = rows.select(chosen).select_columns(kept)
    first = first.rename_columns({"completion": "chosen", "completion_ids": "chosen_ids"})
    second = rows.select(rejected).select_columns(["completion", "completion_ids"])
    second = second.rename_columns({"completion": "rejected", "completion_ids": "rejected_ids"})
    joined: Dataset = datasets.concatenate_datasets([first.flatten_indices(), second.flatten_indices()], axis=1)
    if kind is R:
        scores = rows.select_columns(["score"]).to_pandas()["score"].to_numpy()
        joined = joined.add_column("margin", scores[chosen] - scores[rejected])
    return joined


def with_pairs(rows: Dataset, kind: DataFormat) -> Dataset:
    """Return held-out rows as pairs where answers to one prompt can be paired, else as they are."""
    if kind not in (U, R) or not len(rows):
        return rows
    try:
        return pair_completions(rows, kind)
    except UserError:
        return rows


def _choose_pairs(rows: Dataset, kind: DataFormat) -> tuple[list[int], list[int]]:
    """Return the rows of chosen and of rejected answers, pair by pair."""
    column = "label" if kind is U else "score"
    frame = rows.select_columns(["prompt_key", column]).to_pandas()
    answers = rows["completion"]
    chosen: list[int] = []
    rejected: list[int] = []
    for _, group in frame.groupby("prompt_key", sort=False):
        ranked = group.sort_values(column, ascending=False, kind="stable")
        best, worst = ranked.index[: 1 if kind is R else None], ranked.index[::-1][: 1 if kind is R else None]
        for better, worse in zip(best, worst, strict=True):
            if ranked.at[better, column] > ranked.at[worse, column] and answers[better] != answers[worse]:
                chosen.append(int(better))
                rejected.append(int(worse))
    return chosen, rejected


def _take_completions(rows: Dataset, column: str, label: bool | None = None) -> Dataset:
    part = rows.select_columns(["id", "prompt_key", "prompt_ids", column, *(["label"] if label is None else [])])
    part = part if column == "completion_ids" else part.rename_column(column, "completion_ids")
    return part if label is None else part.add_column("label", [label] * len(part))


def _to_unpaired(rows: Dataset, kind: DataFormat, batch: int, seed: int) -> Dataset:
    """Mix good and bad answers so that each block of ``batch`` holds both; pair each prompt with another's answer."""
    import datasets

    if kind is P:
        rows = datasets.concatenate_datasets(
            [_take_completions(rows, "chosen_ids", True), _take_completions(rows, "rejected_ids", False)]
        )
    else:
        rows = _take_completions(rows, "completion_ids")
    labels = np.array(rows["label"], dtype=bool)
    if labels.all() or not labels.any():
        raise UserError(f"all {len(labels)} answers are labelled {bool(labels[0])}: KTO needs good and bad ones.")
    order = spread_labels(labels, seed)
    partner = choose_kl_partners(np.array(rows["prompt_key"])[order], batch)
    rows = rows.select(order).flatten_indices()
    kl = rows.select(partner).select_columns(["completion_ids"]).rename_column("completion_ids", "KL_completion_ids")
    joined: Dataset = datasets.concatenate_datasets([rows.remove_columns("prompt_key"), kl.flatten_indices()], axis=1)
    return joined


def spread_labels(labels: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Return an order in which both labels are shuffled and spread evenly: any stretch holds them in proportion."""
    generator = np.random.default_rng(seed)
    order, place = [], []
    for label in (True, False):
        indices = generator.permutation(np.flatnonzero(labels == label))
        order.append(indices)
        place.append((np.arange(len(indices)) + 0.5) / max(1, len(indices)))
    merged: np.ndarray[Any, Any] = np.concatenate(order)[np.argsort(np.concatenate(place), kind="stable")]
    return merged


def choose_kl_partners(prompts: np.ndarray[Any, Any], batch: int) -> np.ndarray[Any, Any]:
    """Return for each row the row before it in its block, round the corner, whose prompt differs (TRL's KL pairing)."""
    partner = np.empty(len(prompts), dtype=int)
    for start in range(0, len(prompts), batch):
        block = np.arange(start, min(start + batch, len(prompts)))
        for position, row in enumerate(block):
            earlier = np.roll(block, -position)[::-1]  # the row before it first, itself last
            other = earlier[prompts[earlier] != prompts[row]]
            partner[row] = other[0] if len(other) else (row - 1) % len(prompts)  # a block of one prompt: the row before
    return partner


def _to_supervised(rows: Dataset, kind: DataFormat) -> Dataset:
    column = "chosen_ids" if kind is P else "completion_ids"
    if kind is U:
        rows = rows.select(np.flatnonzero(rows["label"]))
        if not len(rows):
            raise UserError("no answer of the dataset is marked good: there is nothing to imitate.")
    if kind is R:
        frame = rows.select_columns(["prompt_key", "score"]).to_pandas()
        rows = rows.select(np.sort(frame.groupby("prompt_key")["score"].idxmax().to_numpy()))

    def joined(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        pairs = list(zip(batch["prompt_ids"], batch[column], strict=True))
        return {
            "input_ids": [prompt + answer for prompt, answer in pairs],
            "labels": [[-100] * len(prompt) + answer for prompt, answer in pairs],
        }

    kept = rows.select_columns(["id", "prompt_ids", column])
    converted: Dataset = kept.map(joined, batched=True, remove_columns=["prompt_ids", column])
    return converted

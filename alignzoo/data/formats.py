"""Brings prepared rows into the format that a method trains on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from alignzoo.errors import UserError
from alignzoo.method import DataFormat

if TYPE_CHECKING:
    from datasets import Dataset

_IMPOSSIBLE = {
    (
        DataFormat.UNPAIRED,
        DataFormat.PREFERENCE,
    ): "single answers marked good or bad cannot be put into pairs: try method=kto",
    (
        DataFormat.SUPERVISED,
        DataFormat.PREFERENCE,
    ): "it has good answers only, and nothing they are better than: try method=sft",
    (
        DataFormat.SUPERVISED,
        DataFormat.UNPAIRED,
    ): "it has good answers only, and KTO needs bad ones too: try method=sft",
    (DataFormat.PROMPTS, DataFormat.PREFERENCE): "it has prompts only, and no answers: try method=grpo",
    (DataFormat.PROMPTS, DataFormat.UNPAIRED): "it has prompts only, and no answers: try method=grpo",
    (DataFormat.PROMPTS, DataFormat.SUPERVISED): "it has prompts only, and no answers: try method=grpo",
}


def convert(rows: Dataset, kind: DataFormat, wanted: DataFormat, batch: int, seed: int) -> Dataset:
    """Return ``rows`` of ``kind`` in the format ``wanted``.

    Args:
        rows: prepared rows (:mod:`alignzoo.data.table` names their columns).
        kind: what the dataset holds.
        wanted: what the method trains on.
        batch: rows that a process puts through the model at once; the unpaired format is laid out in blocks of it.
        seed: of the order in which pairs are taken apart.

    Raises:
        UserError: the conversion would have to invent something.
    """
    if (kind, wanted) in _IMPOSSIBLE:
        raise UserError(f"the dataset holds {kind} rows, the method needs {wanted} rows: {_IMPOSSIBLE[kind, wanted]}.")
    if wanted is DataFormat.PREFERENCE:
        return rows.select_columns(["id", "prompt_ids", "chosen_ids", "rejected_ids"])
    if wanted is DataFormat.UNPAIRED:
        return _unpaired(rows, kind, batch, seed)
    return _prompts(rows) if wanted is DataFormat.PROMPTS else _supervised(rows, kind)


def _answer(rows: Dataset, column: str, label: bool | None = None) -> Dataset:
    part = rows.select_columns(["id", "prompt_key", "prompt_ids", column, *(["label"] if label is None else [])])
    part = part if column == "completion_ids" else part.rename_column(column, "completion_ids")
    return part if label is None else part.add_column("label", [label] * len(part))


def _unpaired(rows: Dataset, kind: DataFormat, batch: int, seed: int) -> Dataset:
    """Mix good and bad answers so that each block of ``batch`` holds both; pair each prompt with another's answer."""
    import datasets

    if kind is DataFormat.PREFERENCE:
        rows = datasets.concatenate_datasets([_answer(rows, "chosen_ids", True), _answer(rows, "rejected_ids", False)])
    else:
        rows = _answer(rows, "completion_ids")
    labels = np.array(rows["label"], dtype=bool)
    if labels.all() or not labels.any():
        raise UserError(f"all {len(labels)} answers are labelled {bool(labels[0])}: KTO needs good and bad ones.")
    order = mixed(labels, seed)
    partner = partners(np.array(rows["prompt_key"])[order], batch)
    rows = rows.select(order).flatten_indices()
    kl = rows.select(partner).select_columns(["completion_ids"]).rename_column("completion_ids", "KL_completion_ids")
    joined: Dataset = datasets.concatenate_datasets([rows.remove_columns("prompt_key"), kl.flatten_indices()], axis=1)
    return joined


def mixed(labels: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Return an order in which both labels are shuffled and spread evenly: any stretch holds them in proportion."""
    generator = np.random.default_rng(seed)
    order, place = [], []
    for label in (True, False):
        indices = generator.permutation(np.flatnonzero(labels == label))
        order.append(indices)
        place.append((np.arange(len(indices)) + 0.5) / max(1, len(indices)))
    merged: np.ndarray[Any, Any] = np.concatenate(order)[np.argsort(np.concatenate(place), kind="stable")]
    return merged


def partners(prompts: np.ndarray[Any, Any], batch: int) -> np.ndarray[Any, Any]:
    """Return for each row the row before it in its block, round the corner, whose prompt differs (TRL's KL pairing)."""
    partner = np.empty(len(prompts), dtype=int)
    for start in range(0, len(prompts), batch):
        block = np.arange(start, min(start + batch, len(prompts)))
        for position, row in enumerate(block):
            before = np.roll(block, -position)[::-1]  # the row before it first, itself last
            other = before[prompts[before] != prompts[row]]
            partner[row] = other[0] if len(other) else before[0]
    return partner


def _supervised(rows: Dataset, kind: DataFormat) -> Dataset:
    column = "chosen_ids" if kind is DataFormat.PREFERENCE else "completion_ids"
    if kind is DataFormat.UNPAIRED:
        rows = rows.select(np.flatnonzero(rows["label"]))

    def joined(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        pairs = list(zip(batch["prompt_ids"], batch[column], strict=True))
        return {
            "input_ids": [prompt + answer for prompt, answer in pairs],
            "labels": [[-100] * len(prompt) + answer for prompt, answer in pairs],
        }

    kept = rows.select_columns(["id", "prompt_ids", column])
    converted: Dataset = kept.map(joined, batched=True, remove_columns=["prompt_ids", column])
    return converted


def _prompts(rows: Dataset) -> Dataset:
    """Return each prompt once, as messages or text, with the dataset's further columns for rewards to read."""
    import datasets

    seen: dict[str, dict[str, Any]] = {}
    for identity, prompt, extra in zip(rows["id"], rows["prompt"], rows["extra"], strict=True):
        seen.setdefault(prompt, {"id": identity, "prompt": _readable(json.loads(prompt)), **json.loads(extra)})
    return datasets.Dataset.from_list(list(seen.values()))


def _readable(messages: list[dict[str, str]]) -> list[dict[str, str]] | str:
    return messages[0]["content"] if messages[0]["role"] == "text" else messages

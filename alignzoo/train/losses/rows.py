"""Makes the fixed rows on which losses are verified: random token ids of many lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.method import DataFormat

if TYPE_CHECKING:
    from datasets import Dataset

PAIRS = 4
GROUP = 4  #: completions sampled for a prompt
SIZES = {  #: format -> rows of one step
    DataFormat.PREFERENCE: PAIRS,
    DataFormat.UNPAIRED: 2 * PAIRS,
    DataFormat.SUPERVISED: PAIRS,
    DataFormat.PROMPTS: 2 * GROUP,
}

Row = dict[str, Any]


def make_rows(kind: DataFormat, tokenizer: Any, further: Sequence[str] = ()) -> Dataset:
    """Return one step's rows of the format ``kind``: the same ones for the same tokenizer.

    ``further``: columns that pairs have too (:meth:`alignzoo.Method.further_columns`).
    """
    from datasets import Dataset

    if kind is DataFormat.PROMPTS:
        return Dataset.from_list([{"prompt": "Why is the sea salt?"}, {"prompt": "Name three colours, and say why."}])
    pairs = _make_pairs(tokenizer, further)
    made = {DataFormat.UNPAIRED: _make_unpaired(pairs), DataFormat.SUPERVISED: _make_supervised(pairs)}
    rows: Dataset = Dataset.from_list(made.get(kind, pairs))
    return rows


def _make_pairs(tokenizer: Any, further: Sequence[str]) -> list[Row]:
    """Lengths differ within a pair and between pairs, so that a sum, a mean and a mean of means all differ."""
    dice = random.Random(0)
    known = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]

    def ids(length: int) -> list[int]:
        return dice.choices(known, k=length)

    def answer(length: int) -> list[int]:
        return [*ids(length), tokenizer.eos_token_id]

    lengths = [(5, 3, 9), (8, 7, 2), (3, 12, 6), (6, 4, 5)]
    pairs = [{"prompt_ids": ids(p), "chosen_ids": answer(c), "rejected_ids": answer(r)} for p, c, r in lengths]
    values: dict[str, list[Any]] = {"margin": [0.5, 1.5, 4.0, 2.5], "gold_ids": [answer(g) for g in (4, 6, 2, 11)]}
    return [{**pair, **{name: values[name][place] for name in further}} for place, pair in enumerate(pairs)]


def _make_unpaired(pairs: Sequence[Row]) -> list[Row]:
    """Good and bad completions, each with the same kind of completion of the next prompt as its KL pair."""
    return [
        {
            "prompt_ids": pair["prompt_ids"],
            "completion_ids": pair[column],
            "label": column == "chosen_ids",
            "KL_completion_ids": after[column],
        }
        for pair, after in zip(pairs, [*pairs[1:], pairs[0]], strict=True)
        for column in ("chosen_ids", "rejected_ids")
    ]


def _make_supervised(pairs: Sequence[Row]) -> list[Row]:
    return [
        {
            "input_ids": pair["prompt_ids"] + pair["chosen_ids"],
            "labels": [-100] * len(pair["prompt_ids"]) + pair["chosen_ids"],
        }
        for pair in pairs
    ]


def score_ids(
    prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **columns: Any
) -> list[float]:
    """Score sampled completions by their ids alone, as TRL calls rewards.

    The scores spread over hundreds: TRL adds 1e-4 to a group's spread, lest it divide by 0, and the papers do not.
    """
    return [float(sum(ids) % 997) for ids in completion_ids]


def read_rows(kind: DataFormat, rows: Dataset, inputs: Any) -> list[Row]:
    """Return the step's rows with ``prompt_ids`` and ``completion_ids``; sampled ones are read from ``inputs``."""
    if kind is DataFormat.PROMPTS:
        return _read_sampled(inputs)
    if kind is DataFormat.SUPERVISED:
        return [_split_row(row) for row in rows]
    return [dict(row) for row in rows]


def _split_row(row: Row) -> Row:
    start = sum(label == -100 for label in row["labels"])
    return {"prompt_ids": row["input_ids"][:start], "completion_ids": row["input_ids"][start:]}


def _read_sampled(inputs: Any) -> list[Row]:
    def unpadded(column: str) -> list[list[int]]:
        masks = inputs[f"{column}_mask"].bool()
        return [ids[mask].tolist() for ids, mask in zip(inputs[f"{column}_ids"], masks, strict=True)]

    prompts, answers = unpadded("prompt"), unpadded("completion")
    pairs = zip(prompts, answers, strict=True)
    return [
        {"prompt_ids": prompt, "completion_ids": answer, "group": prompts.index(prompt)} for prompt, answer in pairs
    ]

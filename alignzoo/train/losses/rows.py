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
PROMPTS = ("Why is the sea salt?", "Name three colours, and say why.", "Who sells clay?", "Count to five.")
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
        return Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS])
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


def score_squares(
    prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **columns: Any
) -> list[float]:
    """Score them on another scale, a tenth of :func:`score_ids`'."""
    return [float(sum(i * i for i in ids) % 97) for ids in completion_ids]


REWARDS = (score_ids, score_squares)  #: what the sampled completions are scored by
REWARD_WEIGHTS = (1.0, 0.5)  #: of :data:`REWARDS`


def read_rows(kind: DataFormat, rows: Dataset, inputs: Any, end: int) -> list[Row]:
    """Return the step's rows with ``prompt_ids`` and ``completion_ids``; sampled ones are read from ``inputs``.

    Args:
        end: the EOS' id, at which a sampled completion ends.
    """
    if kind is DataFormat.PROMPTS:
        return _read_sampled(inputs, end)
    if kind is DataFormat.SUPERVISED:
        return [_split_row(row) for row in rows]
    return [dict(row) for row in rows]


def _split_row(row: Row) -> Row:
    start = sum(label == -100 for label in row["labels"])
    return {"prompt_ids": row["input_ids"][:start], "completion_ids": row["input_ids"][start:]}


def _read_sampled(inputs: Any, end: int) -> list[Row]:
    """Return the completions up to their EOS, whatever the trainer masks."""
    flat = {name: inputs[name].flatten(0, -2) for name in ("prompt_ids", "prompt_mask", "completion_ids")}
    masked = zip(flat["prompt_ids"], flat["prompt_mask"].bool(), strict=True)
    prompts = [ids[mask].tolist() for ids, mask in masked]
    answers = [_cut(ids.tolist(), end) for ids in flat["completion_ids"]]
    return [
        {
            "prompt_ids": prompt,
            "completion_ids": answer,
            "group": prompts.index(prompt),
            "scores": score(answer),
            "weights": list(REWARD_WEIGHTS),
            "truncated": answer[-1] != end,
        }
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _cut(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


def score(ids: list[int]) -> list[float]:
    """Return what each of :data:`REWARDS` gives a completion."""
    return [reward([], [], [ids])[0] for reward in REWARDS]

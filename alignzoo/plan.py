"""How much a run will train on, in units that mean the same for every method: updates, sequences, tokens.

One epoch of 1,000 pairs in batches of 8 is 125 updates of 16 sequences for DPO, and 250 updates of 8 for KTO: only a
budget in sequences or tokens makes the two comparable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignzoo.errors import UserError
from alignzoo.method import DataFormat

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig

#: Sequences that the policy is trained on for each row of a batch.
SEQUENCES = {DataFormat.PREFERENCE: 2, DataFormat.UNPAIRED: 1, DataFormat.SUPERVISED: 1, DataFormat.PROMPTS: 1}

#: Pairs of the dataset that one row of a batch stands for, where the dataset holds pairs.
PAIRS = {DataFormat.PREFERENCE: 1.0, DataFormat.UNPAIRED: 0.5, DataFormat.SUPERVISED: 1.0}

UNITS = ("pairs", "sequences", "tokens")


@dataclass(frozen=True)
class Plan:
    """What a run will do. ``tokens`` counts prompts and answers without padding, and is a mean over the rows."""

    rows: int
    updates: int
    sequences: int
    tokens: int
    exact: bool
    """False where answers are sampled: ``tokens`` is then the most that they can be."""

    bound: int = -1
    """Updates after which to stop where a budget says so; -1: the trainer counts epochs or ``train.max_steps``."""

    def __str__(self) -> str:
        most = "" if self.exact else "at most "
        return (
            f"{self.rows:,} rows, {self.updates:,} updates, {self.sequences:,} sequences, "
            f"{most}{self.tokens:,} tokens to train on"
        )


def make_plan(cfg: DictConfig, rows: Dataset, data: DataFormat, prompt_tokens: float) -> Plan:
    """Return the plan for ``rows`` in the format ``data``; ``train.budget`` or ``train.max_steps`` bounds it.

    ``prompt_tokens`` is the prompts' mean length, for methods whose rows are not tokenised.

    Raises:
        UserError: the budget is smaller than one update, or in pairs where a method does not train on pairs.
    """
    batch = cfg.train.global_batch_size
    group = cfg.method.get("num_generations", 1) if data is DataFormat.PROMPTS else 1
    per_update = batch * SEQUENCES[data]
    length = _mean_tokens(cfg, rows, data, prompt_tokens)
    updates = _updates(cfg, len(rows) * group, data, per_update, length)
    exact = data is not DataFormat.PROMPTS
    bound = updates if any(cfg.train.budget[unit] is not None for unit in UNITS) else -1
    return Plan(len(rows), updates, updates * per_update, round(updates * per_update * length), exact, bound)


def _updates(cfg: DictConfig, rows: int, data: DataFormat, per_update: int, length: float) -> int:
    batch = cfg.train.global_batch_size
    budget = {unit: cfg.train.budget[unit] for unit in UNITS if cfg.train.budget[unit] is not None}
    if not budget:
        return int(
            cfg.train.max_steps if cfg.train.max_steps > 0 else math.ceil(rows / batch * cfg.train.num_train_epochs)
        )
    (unit, amount), *more = budget.items()
    if more or cfg.train.max_steps > 0:
        raise UserError(
            "train.budget and train.max_steps: set one of train.budget's units or train.max_steps, not two."
        )
    if unit == "pairs" and data not in PAIRS:
        raise UserError(f"train.budget.pairs: {cfg.method.name} trains on no pairs. Use train.budget.sequences.")
    size = {"sequences": per_update, "tokens": per_update * length}.get(unit) or batch * PAIRS[data]
    if amount < size:
        raise UserError(f"train.budget.{unit}={amount} is less than one update, which takes {size:,.0f} {unit}.")
    return int(amount // size)


def _mean_tokens(cfg: DictConfig, rows: Dataset, data: DataFormat, prompt_tokens: float) -> float:
    """Return the mean tokens of a trained sequence, prompt included."""
    if data is DataFormat.PROMPTS:
        return prompt_tokens + float(cfg.method.get("max_completion_length", 0))
    if data is DataFormat.SUPERVISED:
        return mean_length(rows, "input_ids")
    answers = ("chosen_ids", "rejected_ids") if data is DataFormat.PREFERENCE else ("completion_ids",)
    return mean_length(rows, "prompt_ids") + sum(mean_length(rows, answer) for answer in answers) / len(answers)


def mean_length(rows: Dataset, column: str) -> float:
    """Return the mean length of a column of lists, read in batches."""
    import pyarrow.compute as pc

    batches = rows.select_columns([column]).with_format("arrow").iter(10_000)
    total = sum(pc.sum(pc.list_value_length(batch.column(column))).as_py() or 0 for batch in batches)
    return total / max(1, len(rows))

"""Plans how much a run trains on, in units that mean the same for every method: steps, sequences, tokens.

One epoch of 1,000 pairs in batches of 8 is 125 steps of 16 sequences for DPO, and 250 steps of 8 for KTO: only a
budget in sequences or tokens makes the two comparable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignzoo.plugin.method import DataFormat
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.config.placement import Placement
    from alignzoo.plugin.method import Method

#: Sequences that the policy is trained on for each row of a batch.
SEQUENCES = {DataFormat.PREFERENCE: 2, DataFormat.UNPAIRED: 1, DataFormat.SUPERVISED: 1, DataFormat.PROMPTS: 1}

#: Pairs of the dataset that one row of a batch stands for, where the dataset holds pairs.
PAIRS = {DataFormat.PREFERENCE: 1.0, DataFormat.UNPAIRED: 0.5, DataFormat.SUPERVISED: 1.0}

UNITS = ("pairs", "sequences", "tokens")


def count_sequences(method: type[Method], cfg: DictConfig) -> int:
    """Return the sequences that the policy is trained on for each row: three of a pair with a gold completion."""
    return SEQUENCES[method.data] + ("gold_ids" in method.further_columns(cfg))


@dataclass(frozen=True)
class Plan:
    """What a run will train on.

    ``updates`` are optimizer steps; ``tokens`` counts prompts and completions without padding, as a mean over the rows.
    """

    rows: int
    updates: int
    sequences: int
    tokens: int
    exact: bool
    """False where completions are sampled: ``tokens`` is then the most that they can be."""

    bound: int = -1
    """Steps after which to stop where a budget says so; -1: the trainer counts epochs or ``train.max_steps``."""

    def __str__(self) -> str:
        most = "" if self.exact else "at most "
        return (
            f"{self.rows:,} rows, {self.updates:,} steps, {self.sequences:,} sequences, "
            f"{most}{self.tokens:,} tokens to train on"
        )


def make_plan(checked: Checked, rows: Dataset, prompt_tokens: float) -> Plan:
    """Return the plan for ``rows`` in the method's format; ``train.budget`` or ``train.max_steps`` bounds it.

    ``prompt_tokens`` is the prompts' mean length, for methods whose rows are not tokenised.

    Raises:
        UserError: the budget is smaller than one step, or in pairs where a method does not train on pairs; or the
            rows do not fill one batch.
    """
    cfg, data, each = checked.cfg, checked.method.data, count_sequences(checked.method, checked.cfg)
    epoch = _measure_epoch(checked, len(rows), each)
    length = _measure_tokens(cfg, rows, checked.method, prompt_tokens)
    budget = _read_budget(cfg, data, each, epoch.batch, length)
    if budget is not None:
        updates = epoch.count_steps(budget)
    elif cfg.train.max_steps > 0:
        updates = cfg.train.max_steps
    else:
        updates = math.ceil(epoch.updates * cfg.train.num_train_epochs)
    sequences = epoch.count_sequences(updates)
    exact = not _samples(checked.method)
    return Plan(len(rows), updates, sequences, round(sequences * length), exact, -1 if budget is None else updates)


@dataclass(frozen=True)
class Epoch:
    """Once through the rows: steps, sequences, and the sequences of a whole batch (the last may hold fewer)."""

    updates: int
    sequences: int
    batch: int

    def count_sequences(self, updates: int) -> int:
        """Return the sequences in this many steps."""
        epochs, more = divmod(updates, self.updates)
        return epochs * self.sequences + min(self.sequences, more * self.batch)

    def count_steps(self, sequences: float) -> int:
        """Return the most steps that take no more than this many sequences."""
        epochs, more = divmod(sequences, self.sequences)
        return int(epochs * self.updates + more // self.batch)


def _measure_epoch(checked: Checked, rows: int, each: int) -> Epoch:
    """TRL's trainers keep a short last batch, except the on-policy ones: they leave out prompts that do not fill one.

    What they sample at a time serves ``method.num_iterations`` times.
    """
    cfg = checked.cfg
    batch = cfg.train.global_batch_size
    if not _samples(checked.method):
        return Epoch(math.ceil(rows / batch), rows * each, batch * each)
    size, sampled = _read_sample_size(cfg, checked.placement)
    prompts = sampled // cfg.method.get("num_generations", 1)
    sequences = rows // prompts * sampled * cfg.method.get("num_iterations", 1)
    if not sequences:
        raise UserError(
            f"the dataset has {rows} prompts, and one batch takes {prompts} ({size} over "
            f"method.num_generations).\nLower {size}, or take more rows."
        )
    return Epoch(math.ceil(sequences / batch), sequences, batch)


def _read_sample_size(cfg: DictConfig, placement: Placement) -> tuple[str, int]:
    """Return the key that says how many completions are sampled at a time, and how many: one batch's if none is set."""
    size, steps = (cfg.method.get(key) for key in ("generation_batch_size", "steps_per_generation"))
    if size:
        return "method.generation_batch_size", int(size)
    if steps:
        return "method.steps_per_generation", int(steps) * placement.micro_batch * placement.processes
    return "train.global_batch_size", int(cfg.train.global_batch_size)


def _read_budget(cfg: DictConfig, data: DataFormat, each: int, batch: int, length: float) -> float | None:
    """Return ``train.budget`` in sequences, of which a row has ``each``, or None where none is set."""
    budget = {unit: cfg.train.budget[unit] for unit in UNITS if cfg.train.budget[unit] is not None}
    if not budget:
        return None
    (unit, amount), *more = budget.items()
    if more or cfg.train.max_steps > 0:
        raise UserError(
            "train.budget and train.max_steps: set one of train.budget's units or train.max_steps, not two."
        )
    if unit == "pairs" and data not in PAIRS:
        raise UserError(f"train.budget.pairs: {cfg.method.name} does not train on pairs. Use train.budget.sequences.")
    size = {"sequences": 1.0, "tokens": length}.get(unit) or PAIRS[data] / each  # of one sequence
    if amount < batch * size:
        raise UserError(f"train.budget.{unit}={amount} is less than one step, which takes {batch * size:,.0f} {unit}.")
    return float(amount / size + 1e-9)  # a whole number of tokens over their mean may fall just short


def _samples(method: type[Method]) -> bool:
    return method.samples or method.data is DataFormat.PROMPTS


def _measure_tokens(cfg: DictConfig, rows: Dataset, method: type[Method], prompt_tokens: float) -> float:
    """Return the mean tokens of a trained sequence, prompt included; the most where completions are sampled."""
    data = method.data
    if _samples(method):
        given = measure_mean_length(rows, "input_ids") if method.samples else 0.0
        return max(given, prompt_tokens + float(cfg.method.get("max_completion_length", 0)))
    if data is DataFormat.SUPERVISED:
        return measure_mean_length(rows, "input_ids")
    columns = ["chosen_ids", "rejected_ids"] if data is DataFormat.PREFERENCE else ["completion_ids"]
    columns += ["gold_ids"] if "gold_ids" in rows.column_names else []
    completion = sum(measure_mean_length(rows, column) for column in columns) / len(columns)
    return measure_mean_length(rows, "prompt_ids") + completion


def measure_mean_length(rows: Dataset, column: str) -> float:
    """Return the mean length of a column of lists, read in batches."""
    import pyarrow.compute as pc

    batches = rows.select_columns([column]).with_format("arrow").iter(10_000)
    total = sum(pc.sum(pc.list_value_length(batch.column(column))).as_py() or 0 for batch in batches)
    return total / max(1, len(rows))

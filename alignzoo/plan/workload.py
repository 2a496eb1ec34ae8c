"""Computes how many sequences of how many tokens go through the model at once, in each phase of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignzoo.plan.budget import count_sequences
from alignzoo.plan.packed import Spread, measure_spreads
from alignzoo.plan.passes import Size
from alignzoo.plan.phases import Workload
from alignzoo.plugin.method import DataFormat, ModelKind

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig

    from alignzoo.config.checked import Checked
    from alignzoo.data.prepare import Prepared
    from alignzoo.plugin.method import Method

#: The completions that a pair can have.
PAIRED = ("chosen_ids", "rejected_ids", "gold_ids")


@dataclass(frozen=True)
class Lengths:
    """The longest sequences, in tokens, and the numbers of rows."""

    trained: int
    """A sequence to train on, prompt and completion; where completions are sampled, a prompt."""

    scored: int
    """A held-out prompt with its longer completion; 0 without pairs."""

    prompt: int
    """A held-out prompt."""

    rows: int | None = None
    """Rows to train on; None: more than a batch."""

    heldout: int | None = None
    validation: int = 0
    """Rows for validation that are measured."""

    distinct: Spread | None = None
    """Tokens of a row to train on, a prompt counted once; None: unknown, no prefix is shared."""

    labels: Spread | None = None
    """Positions of a row that are scored; None: all."""

    answered: int = 0
    """A prompt with the longer of its completions, of rows that hold some, where completions are sampled too."""


def assume_lengths(cfg: DictConfig) -> Lengths:
    """Return the lengths where the data is not read: ``train.max_length``, half of it the prompt."""
    most: int = cfg.train.max_length
    return Lengths(trained=most, scored=most, prompt=most // 2)


def read_lengths(checked: Checked, data: Prepared, rows: Dataset) -> Lengths:
    """Return the lengths of the rows that a run trains on, ``rows`` in the method's format, and measures."""
    from alignzoo.data.convert import with_pairs

    method = checked.method
    heldout = with_pairs(data.heldout, data.measured_kind)
    heldout = heldout.select(range(min(checked.cfg.evaluate.rows, len(heldout))))
    answers = [name for name in ("chosen_ids", "rejected_ids") if name in heldout.column_names]
    paired = len(answers) == 2 and len(heldout) > 0 and heldout[0]["chosen_ids"] is not None
    columns = {
        DataFormat.PREFERENCE: [name for name in PAIRED if name in rows.column_names],
        DataFormat.UNPAIRED: ["completion_ids"],
    }.get(method.data, [])
    answered = measure_longest(rows, "input_ids", []) if method.samples else 0
    if method.data is DataFormat.PROMPTS or method.samples:
        trained = measure_longest(data.train, "prompt_ids", [])
    elif method.data is DataFormat.SUPERVISED:
        trained = measure_longest(rows, "input_ids", [])
    else:
        trained = measure_longest(rows, "prompt_ids", columns)
    distinct, labels = measure_spreads(method, rows)
    return Lengths(
        trained=trained,
        scored=measure_longest(heldout, "prompt_ids", answers) if paired else 0,
        prompt=measure_longest(heldout, "prompt_ids", []),
        rows=len(rows),
        heldout=len(heldout),
        validation=min(checked.cfg.evaluate.rows, len(data.validation or ())),
        distinct=distinct,
        labels=labels,
        answered=answered,
    )


def measure_longest(rows: Dataset, prompt: str, answers: Sequence[str]) -> int:
    """Return the most tokens of a row's prompt with its longest completion; columns of token ids, read in batches."""
    import numpy as np
    import pyarrow.compute as pc

    most = 0
    for batch in rows.select_columns([prompt, *answers]).with_format("arrow").iter(10_000):
        lengths = {
            name: pc.list_value_length(batch.column(name)).fill_null(0).to_numpy() for name in batch.column_names
        }
        added = np.maximum.reduce([lengths[name] for name in answers]) if answers else 0
        most = max(most, int((lengths[prompt] + added).max()))
    return most


def make_workload(cfg: DictConfig, method: type[Method], lengths: Lengths, devices: int) -> Workload:
    """Return what one of ``devices`` puts through the model."""
    sampled = method.data is DataFormat.PROMPTS or method.samples
    each = count_rows_at_once(cfg, method, lengths, devices)
    rows = min(each, lengths.rows or each) if not sampled else each
    batches = max(1, cfg.train.global_batch_size // (each * devices))
    tokens, sample = lengths.trained, None
    if sampled:
        prompt = lengths.trained if lengths.rows else lengths.prompt
        tokens = max(prompt + int(cfg.method.get("max_completion_length", 0)), lengths.answered)
        whole = int(cfg.method.get("generation_batch_size") or 0) // (each * devices)
        sample = Size(each * int(cfg.method.get("steps_per_generation") or whole or batches), tokens)
    measured = min(cfg.evaluate.batch_size, cfg.evaluate.rows, lengths.heldout or cfg.evaluate.rows)
    measures = cfg.evaluate.enabled and measured > 0 and lengths.heldout != 0
    answers = measures and method.trains is ModelKind.POLICY  # a reward model has none
    return Workload(
        train=_make_batch(cfg, method, lengths, rows, tokens),
        sample=sample,
        sample_prompt=tokens - int(cfg.method.get("max_completion_length", 0)) if sampled else 0,
        score=Size(measured, lengths.scored) if measures and lengths.scored else None,
        generate=Size(measured, lengths.prompt + cfg.evaluate.max_new_tokens) if answers else None,
        prompt=lengths.prompt,
        batches=batches,
    )


def count_rows_at_once(cfg: DictConfig, method: type[Method], lengths: Lengths, devices: int) -> int:
    """Return the rows that one of ``devices`` puts through the model at once; the longest, where tokens bound them."""
    train = cfg.train
    bound = train.per_device_batch_size
    if train.per_device_batch_tokens is not None:
        bound = train.per_device_batch_tokens // (count_sequences(method, cfg) * lengths.trained)
    return max(1, min(int(bound), int(train.global_batch_size) // devices))


def _make_batch(cfg: DictConfig, method: type[Method], lengths: Lengths, rows: int, tokens: int) -> Size:
    """Return one batch of ``rows``, whose longest sequence has ``tokens``, with what packing leaves of it."""
    sequences = rows * count_sequences(method, cfg)
    if method.data is DataFormat.PROMPTS or method.samples:
        answers = rows * int(cfg.method.get("max_completion_length", 0))
        prompts = -(-rows // int(cfg.method.get("num_generations", 1)))
        return Size(sequences, tokens, prompts * (tokens - answers // rows) + answers, answers)
    bounded = cfg.train.per_device_batch_tokens is not None  # packed or not, it holds the same tokens
    if bounded or lengths.distinct is None or lengths.labels is None:
        return Size(sequences, tokens)
    batches = _count_batches(cfg, lengths.rows or rows, rows)
    packed, scored = (spread.largest(rows, batches) for spread in (lengths.distinct, lengths.labels))
    return Size(sequences, tokens, packed, scored)


def _count_batches(cfg: DictConfig, total: int, rows: int) -> int:
    """Return how many batches a device takes in a run, at most."""
    each: int = max(1, cfg.train.global_batch_size // rows)
    if cfg.train.max_steps > 0:
        return int(cfg.train.max_steps) * each
    epochs = float(cfg.train.num_train_epochs)
    return math.ceil(epochs * total / rows)

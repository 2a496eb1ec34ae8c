"""Measures what packing (`speed.shared_prefix`) leaves of a batch: distinct tokens, and positions with a label."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.method import DataFormat, ModelKind

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig

    from alignzoo.plan.passes import Size
    from alignzoo.plan.phases import Workload
    from alignzoo.plan.skeleton import Skeleton
    from alignzoo.plugin.method import Method

#: Columns of a row whose tokens go through the model, a prompt once for its completions, and those that are scored.
COLUMNS: dict[DataFormat, tuple[tuple[str, ...], tuple[str, ...]]] = {
    DataFormat.PREFERENCE: (("prompt_ids", "chosen_ids", "rejected_ids"), ("chosen_ids", "rejected_ids")),
    DataFormat.UNPAIRED: (("prompt_ids", "completion_ids"), ("completion_ids",)),
}


@dataclass(frozen=True)
class Spread:
    """Tokens of a row, over the rows."""

    mean: float
    deviation: float
    most: int
    rows: int

    def largest(self, rows: int, batches: int) -> int:
        """Return the tokens of the largest of so many batches of ``rows``, by expectation.

        Blom, 1958, approximates the largest of n normal numbers; rows are drawn without replacement.
        """
        drawn = math.sqrt(max(0, self.rows - rows) / max(1, self.rows - 1))
        score = NormalDist().inv_cdf((max(1, batches) - 0.375) / (max(1, batches) + 0.25))
        above = score * drawn * self.deviation * math.sqrt(rows)
        return min(rows * self.most, math.ceil(rows * self.mean + above))


def measure_spreads(method: type[Method], rows: Dataset) -> tuple[Spread | None, Spread | None]:
    """Return a row's distinct tokens and its labelled positions; None where completions are sampled.

    None for a reward model too: its rows are not packed, and no position has a label.

    Of rows with one prompt in common only those of a pair count as sharing it. A pair's method without a reference
    (ORPO) is assumed to learn the chosen completion's prompt too.
    """
    if method.data is DataFormat.SUPERVISED:
        labels = ("labels",) if "labels" in rows.column_names else ("input_ids",)
        return _measure_spread(rows, ("input_ids",)), _measure_spread(rows, labels)
    if method.data not in COLUMNS or method.trains is ModelKind.REWARD_MODEL:
        return None, None
    distinct, scored = COLUMNS[method.data]
    if "gold_ids" in rows.column_names:
        distinct, scored = (*distinct, "gold_ids"), (*scored, "gold_ids")
    if method.data is DataFormat.PREFERENCE and not method.needs_reference:
        scored = "prompt_ids", *scored
    return _measure_spread(rows, distinct), _measure_spread(rows, scored)


def _measure_spread(rows: Dataset, columns: tuple[str, ...]) -> Spread:
    """Return the tokens of a row in these columns together; read in batches."""
    import numpy as np

    parts = [np.zeros(0, dtype=np.int64)]
    for batch in rows.select_columns(list(columns)).with_format("arrow").iter(10_000):
        parts.append(sum(_count_tokens(batch, name) for name in columns))
    tokens = np.concatenate(parts)
    if not len(tokens):
        return Spread(0, 0, 0, 0)
    return Spread(float(tokens.mean()), float(tokens.std()), int(tokens.max()), len(tokens))


def _count_tokens(batch: Any, name: str) -> Any:
    """Return the tokens of each row in a column of a table; of ``labels``, those that are not -100."""
    import numpy as np
    import pyarrow.compute as pc

    if name == "labels":
        return np.array([int((np.asarray(row) >= 0).sum()) for row in batch.column(name).to_pylist()])
    return pc.list_value_length(batch.column(name)).to_numpy()


def apply_packing(cfg: DictConfig, work: Workload, skeleton: Skeleton, device: str) -> Workload:
    """Return the workload with its batch padded where the run will not pack it, and all positions scored.

    On a GPU the head always takes positions with a label only, and whether `speed.shared_prefix=auto` packs is
    known after a trial in the run: the plan does not count on it.
    """
    from alignzoo.models.shared_prefix.supported import reason_against

    choice, train = cfg.speed.shared_prefix, work.train
    tried = choice == "on" or (choice == "auto" and device == "cpu")
    labels_only = tried or device == "cuda"
    packs = tried and reason_against(skeleton.model) is None and _is_worth_it(cfg, train)
    train = replace(train, packed=train.packed if packs else None, scored=train.scored if labels_only else None)
    return replace(work, train=train)


def _is_worth_it(cfg: DictConfig, train: Size) -> bool:
    from alignzoo.models.shared_prefix.patch import PAYS

    most = train.positions if cfg.speed.shared_prefix == "on" else PAYS * train.positions
    return train.packed is not None and train.packed <= most

"""Runs ``alignzoo WORDS``, and counts the sequences of its reference passes into the file named first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from trl import DPOTrainer

from alignzoo.train.reference.scoring import Scorer


def main() -> None:
    """Run the command line, and write the count also where it fails."""
    file, sys.argv = sys.argv[1], ["alignzoo", *sys.argv[2:]]
    command = next(iter(entry_points(group="console_scripts", name="alignzoo")))
    with count_sequences() as computed:
        try:
            command.load()()
        finally:
            Path(file).write_text(str(sum(computed)), encoding="utf-8")


@contextmanager
def count_sequences() -> Iterator[list[int]]:
    """Yield the sequences of each batch that goes through DPO's reference, in alignzoo's pass or in TRL's."""
    computed: list[int] = []
    ours, trls = Scorer._score_batch, DPOTrainer.compute_ref_log_probs

    def counted(self: Scorer, batch: Any) -> Any:
        computed.append(len(batch))
        return ours(self, batch)

    def counted_by_trl(trainer: Any, model: Any, inputs: dict[str, Any]) -> Any:
        computed.append(len(inputs["input_ids"]))
        return trls(trainer, model, inputs)

    scorer: Any = Scorer
    # patch: trl DPOTrainer.compute_ref_log_probs
    scorer._score_batch, DPOTrainer.compute_ref_log_probs = counted, counted_by_trl
    try:
        yield computed
    finally:
        scorer._score_batch, DPOTrainer.compute_ref_log_probs = ours, trls


if __name__ == "__main__":
    main()

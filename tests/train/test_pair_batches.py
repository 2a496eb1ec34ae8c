"""Batches of pairs hold margins, gold completions and numbers to draw tokens by, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference

from alignzoo.train.pair_batches import FurtherCollator, draw_for_batch, draw_numbers

ROWS = [
    {"prompt_ids": [5, 6], "chosen_ids": [7, 1], "rejected_ids": [8, 1], "gold_ids": [9, 9, 9, 1], "margin": 2},
    {"prompt_ids": [4], "chosen_ids": [7, 7, 1], "rejected_ids": [1], "gold_ids": [3, 1], "margin": 0.5},
]


def test_gold_completions_stand_behind_chosen_and_rejected_ones() -> None:
    batch = FurtherCollator(DataCollatorForPreference(pad_token_id=0), ["margin", "gold_ids"])(ROWS)
    assert batch["margin"].tolist() == [2.0, 0.5]
    assert batch["input_ids"].tolist()[::2] == [[5, 6, 7, 1, 0, 0], [5, 6, 8, 1, 0, 0], [5, 6, 9, 9, 9, 1]]
    assert batch["completion_mask"].sum(1).tolist() == [2, 3, 2, 1, 4, 2]
    assert batch["attention_mask"].sum(1).tolist() == [4, 4, 4, 2, 6, 3]


def test_a_row_draws_the_same_numbers_in_whichever_batch_and_others_at_each_step() -> None:
    collate = DataCollatorForPreference(pad_token_id=0)
    both, one = (draw_for_batch(collate(rows), seed=3, step=7) for rows in (ROWS, ROWS[1:]))
    assert torch.equal(both[1, : one.shape[1]], one[0])
    mask = collate(ROWS)["completion_mask"][:, 1:]
    assert torch.equal(both != 0, mask == 1)
    first, later, other = (draw_numbers([1, 2, 3], 3, seed, step) for seed, step in ((3, 7), (3, 8), (4, 7)))
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, other)


def test_draws_are_even() -> None:
    drawn = np.concatenate([draw_numbers([place], 100, 0, 0) for place in range(100)])
    assert abs(drawn.mean() - 0.5) < 0.02  # seven standard deviations

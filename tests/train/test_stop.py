"""All ranks stop at the same update; and the samplers that a resumed run sets to its epoch."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, SeedableRandomSampler, skip_first_batches
from torch.utils.data import BatchSampler
from trl.trainer.utils import RepeatSampler

from alignzoo.train.checkpointing import _samplers
from alignzoo.train.stop import agreed
from alignzoo.train.token_rows import EpochRepeats


def test_a_single_process_decides_for_itself() -> None:
    assert [agreed(asked, "cpu") for asked in (0, 15)] == [0, 15]


def _ask(rank: int, store: Path, answers: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    got = [agreed(asked if rank == 1 else 0, "cpu") for asked in (0, 15, 1_000)]
    answers.write_text(str(got))
    torch.distributed.destroy_process_group()


def test_what_one_rank_was_asked_all_ranks_hear(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    files = [tmp_path / "0", tmp_path / "1"]
    ranks = [context.Process(target=_ask, args=(rank, tmp_path / "store", file)) for rank, file in enumerate(files)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [file.read_text() for file in files] == ["[0, 15, 1000]"] * 2


@pytest.mark.parametrize("skipped", [0, 3])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_sampler_is_found_below_all_that_accelerate_puts_around_it(ranks: int, skipped: int) -> None:
    data = list(range(16))
    sampler = SeedableRandomSampler(data, data_seed=3)
    batches = BatchSampler(sampler, 2, drop_last=False)
    loader = DataLoaderShard(data, batch_sampler=BatchSamplerShard(batches, ranks, 0) if ranks > 1 else batches)
    found = next(found for found in _samplers(skip_first_batches(loader, skipped)) if hasattr(found, "set_epoch"))
    assert found is sampler


def test_the_order_of_an_epoch_is_trls_and_follows_from_its_number() -> None:
    def repeats() -> RepeatSampler:
        return RepeatSampler(range(10), mini_repeat_count=2, batch_size=3, repeat_count=2, seed=5)

    one_after_the_other = repeats()
    epochs = [list(one_after_the_other) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    for epoch in (2, 0, 1):
        alone = EpochRepeats(repeats())
        alone.set_epoch(epoch)
        assert list(alone) == list(alone) == epochs[epoch]
        assert len(alone) == len(epochs[epoch])

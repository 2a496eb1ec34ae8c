"""KTO's batches: both labels in each, KL partners from the same block, another order each epoch and seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from omegaconf import DictConfig
from torch.utils.data import DataLoader, RandomSampler

from alignzoo import DataFormat, UserError
from alignzoo.config.check import check
from alignzoo.data.convert import convert
from alignzoo.models.load import load_policy, load_tokenizer
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.token_rows import BlockSampler
from alignzoo.train.trainer import build_trainer
from alignzoo.train.trl_config import make_trl_config

Build = Callable[..., Any]

PAIRS, BATCH = 2000, 8


@dataclass(frozen=True)
class Row:
    """One collated row: its answer's number, its prompt, its label, and the answer that its KL term takes."""

    answer: int
    prompt: int
    label: bool
    partner: int


@pytest.fixture
def build(start: Path, tmp_path: Path, compose_config: Callable[..., DictConfig]) -> Build:
    """Build a method's real trainer on given rows."""

    def trainer(rows: Dataset, *overrides: str, method: str = "kto", heldout: Dataset | None = None) -> Any:
        cfg = compose_config(
            *(f"method={method}", "model=tiny", "method.precompute_ref_log_probs=false"),
            *(f"train.per_device_batch_size={BATCH}", f"train.global_batch_size={BATCH}", *overrides),
        )
        checked = check(cfg)
        silence_libraries(cfg.telemetry)
        trainer_ = build_trainer(
            checked,
            make_trl_config(checked, tmp_path),
            load_policy(start, cfg, "fp32"),
            load_tokenizer(start, cfg.model),
            rows,
            heldout=heldout,
        )
        return trainer_

    return trainer


def pairs(count: int, prompts: int | None = None) -> Dataset:
    """Return token rows whose answers are numbered: pair n has the chosen answer [2n] and the rejected [2n + 1]."""
    keys = [n % (prompts or count) for n in range(count)]
    return Dataset.from_dict(
        {
            "id": [f"row-{n}" for n in range(count)],
            "prompt_key": keys,
            "prompt_ids": [[key] for key in keys],
            "chosen_ids": [[2 * n] for n in range(count)],
            "rejected_ids": [[2 * n + 1] for n in range(count)],
        }
    )


def marked(labels: list[bool]) -> Dataset:
    """Return single answers, numbered, each to a prompt of its own."""
    numbers = range(len(labels))
    return Dataset.from_dict(
        {
            "id": [f"row-{n}" for n in numbers],
            "prompt_key": list(numbers),
            "prompt_ids": [[n] for n in numbers],
            "completion_ids": [[n] for n in numbers],
            "label": labels,
        }
    )


def unpaired(rows: Dataset, seed: int = 0, batch: int = BATCH) -> Dataset:
    kind = DataFormat.UNPAIRED if "label" in rows.column_names else DataFormat.PREFERENCE
    return convert(rows, kind, DataFormat.UNPAIRED, batch, seed)


def epochs(loader: DataLoader[Any], *numbers: int) -> list[list[list[Row]]]:
    """Return the batches of each epoch, iterated as transformers' training loop does."""
    read = []
    for number in numbers:
        loader.set_epoch(number)  # type: ignore[attr-defined]
        read.append([_rows(batch) for batch in loader])
    return read


def _rows(batch: dict[str, Any]) -> list[Row]:
    """Read the rows back from padded tensors: each row is a prompt of one token and an answer of one."""
    own, partner = batch["input_ids"].tolist(), batch["KL_input_ids"].tolist()
    assert all(a[0] == b[0] for a, b in zip(own, partner, strict=True)), "the KL term has the row's own prompt"
    labels = batch["label"].tolist()
    return [Row(a[1], a[0], label, b[1]) for a, b, label in zip(own, partner, labels, strict=True)]


def answers(epoch: list[list[Row]]) -> list[int]:
    return [row.answer for batch in epoch for row in batch]


@pytest.fixture(scope="module")
def read() -> dict[str, list[list[list[Row]]]]:
    return {}


@pytest.fixture
def two_epochs(build: Build, read: dict[str, list[list[list[Row]]]]) -> list[list[list[Row]]]:
    """2,000 pairs on 700 prompts through KTO's dataloader, twice; read once for this module."""
    if not read:
        read["epochs"] = epochs(build(unpaired(pairs(PAIRS, prompts=700))).get_train_dataloader(), 0, 1)
    return read["epochs"]


def test_paired_data(two_epochs: list[list[list[Row]]]) -> None:
    """Every batch holds both labels, as many of each; every answer comes once an epoch with its own prompt."""
    for epoch in two_epochs:
        assert len(epoch) == 2 * PAIRS / BATCH
        assert {sum(row.label for row in batch) for batch in epoch} == {BATCH // 2}
        assert sorted(answers(epoch)) == list(range(2 * PAIRS))
        for row in (row for batch in epoch for row in batch):
            assert row.label == (row.answer % 2 == 0)
            assert row.prompt == row.answer // 2 % 700


def test_kl_partners(two_epochs: list[list[list[Row]]]) -> None:
    """The KL term takes an answer of the same batch, and another prompt's where the batch has one."""
    shared = 0
    for batch in (batch for epoch in two_epochs for batch in epoch):
        prompts = {row.answer: row.prompt for row in batch}
        shared += len(prompts) - len(set(prompts.values()))
        for row in batch:
            assert row.partner in prompts
            assert prompts[row.partner] != row.prompt
    assert shared  # otherwise any partner would do


def test_partner_of_a_batch_with_one_prompt_is_another_answer_of_it(build: Build) -> None:
    (epoch,) = epochs(build(unpaired(pairs(BATCH, prompts=1))).get_train_dataloader(), 0)
    assert all(row.partner != row.answer for batch in epoch for row in batch)


def test_partner_where_one_row_alone_has_another_prompt(build: Build) -> None:
    """Seven answers to one prompt and one to another: the seven take the one, the one takes any of the seven."""
    rows = marked([n % 2 == 0 for n in range(BATCH)])
    rows = rows.remove_columns("prompt_key").add_column("prompt_key", [0] * 7 + [1])
    ((batch,),) = epochs(build(unpaired(rows)).get_train_dataloader(), 0)
    assert {row.partner for row in batch if row.answer != 7} == {7}
    assert all(row.partner != 7 for row in batch if row.answer == 7)


def test_epochs_differ_in_the_order_of_their_batches(two_epochs: list[list[list[Row]]]) -> None:
    """The batches stay whole, since their KL pairs were made together; they come in another order."""
    first, second = two_epochs
    assert answers(first) != answers(second)
    assert {frozenset(batch) for batch in first} == {frozenset(batch) for batch in second}
    moved = sum(a != b for a, b in zip(first, second, strict=True))
    assert moved > len(first) / 2


def test_training_goes_through_another_order_each_epoch(build: Build) -> None:
    """What the training loop itself hands to the loss, epoch by epoch."""
    seen = recorded(build(unpaired(pairs(12), batch=4), *SMALL))
    assert [sorted(seen[i : i + 6]) for i in (0, 6, 12)] == [sorted(seen[:6])] * 3
    assert len({tuple(seen[i : i + 6]) for i in (0, 6, 12)}) == 3


#: Twelve pairs are six batches of four answers.
SMALL = ("train.per_device_batch_size=4", "train.global_batch_size=4", "train.num_train_epochs=3")


def recorded(trainer: Any, checkpoint: Path | None = None) -> list[tuple[int, ...]]:
    """Train, and return the answers of each batch that reached the loss."""
    seen, compute = [], trainer.compute_loss

    def compute_loss(model: Any, inputs: dict[str, Any], **kwargs: Any) -> Any:
        seen.append(tuple(row.answer for row in _rows(inputs)))
        return compute(model, inputs, **kwargs)

    trainer.compute_loss = compute_loss
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return seen


@pytest.mark.parametrize("step", [6, 8, 12])
def test_resuming_goes_on_with_the_same_batches(build: Build, tmp_path: Path, step: int) -> None:
    """After whole epochs (6, 12) and inside one (8)."""
    saving = (*SMALL, "train.save_strategy=steps", f"train.save_steps={step}", "train.save_total_limit=null")
    whole = recorded(build(unpaired(pairs(12), batch=4), *saving))
    again = recorded(build(unpaired(pairs(12), batch=4), *saving), tmp_path / "checkpoints" / f"checkpoint-{step}")
    assert len(whole) == 18
    assert again == whole[step:]


def test_a_fresh_dataloader_gives_epoch_k_its_own_order(build: Build) -> None:
    rows = unpaired(pairs(100))
    first, second, third = epochs(build(rows).get_train_dataloader(), 0, 1, 2)
    assert epochs(build(rows).get_train_dataloader(), 2, 1) == [third, second]
    assert answers(first) != answers(third)


def test_seeds_change_the_order(build: Build) -> None:
    """Of the answers within blocks (conversion) and of the blocks (sampler); one seed gives one order."""
    rows = pairs(100)
    assert unpaired(rows, 0).to_list() == unpaired(rows, 0).to_list()
    assert unpaired(rows, 0)["id"] != unpaired(rows, 1)["id"]
    orders = [answers(epochs(build(unpaired(rows), f"seed={seed}").get_train_dataloader(), 0)[0]) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("share", [1 / 4, 3 / 4, 1 / 7])
def test_unbalanced_labels_are_spread(build: Build, share: float) -> None:
    """Each batch holds the rarer label in proportion, to the nearest row, and so at least once from one in eight."""
    labels = [n < 560 * share for n in range(560)]
    (epoch,) = epochs(build(unpaired(marked(labels))).get_train_dataloader(), 0)
    assert sorted(answers(epoch)) == list(range(560))
    for batch in epoch:
        good = sum(row.label for row in batch)
        assert abs(good - BATCH * share) <= 1
        assert 0 < good < BATCH
    assert Counter(row.label for batch in epoch for row in batch) == Counter(labels)


@pytest.mark.parametrize("count", [4, 5, 13, 1001])
def test_odd_sizes(build: Build, count: int) -> None:
    """A short last batch stays last and whole; nothing is lost, and no partner leaves its batch."""
    for epoch in epochs(build(unpaired(pairs(count))).get_train_dataloader(), 0, 1):
        assert sorted(answers(epoch)) == list(range(2 * count))
        assert [len(batch) for batch in epoch[:-1]] == [BATCH] * (len(epoch) - 1)
        assert len(epoch[-1]) == ((2 * count) % BATCH or BATCH)
        for batch in epoch:
            assert {row.label for row in batch} == {True, False}
            assert {row.partner for row in batch} <= {row.answer for row in batch}


def test_a_last_row_alone_is_not_its_own_partner(build: Build) -> None:
    """Nine single answers in batches of eight (TRL refuses a batch of one for this very reason)."""
    (epoch,) = epochs(build(unpaired(marked([n % 2 == 0 for n in range(9)]))).get_train_dataloader(), 0)
    assert all(row.partner != row.answer for batch in epoch for row in batch)


def test_held_out_rows_keep_their_blocks(build: Build) -> None:
    """The trainer's own evaluation meets the blocks in which the KL pairs were made."""
    rows = unpaired(pairs(20))
    trainer = build(rows, heldout=rows)
    for batch in trainer.get_eval_dataloader():
        read = _rows(batch)
        assert {row.partner for row in read} <= {row.answer for row in read}
        assert {row.label for row in read} == {True, False}


@pytest.mark.parametrize("label", [True, False])
def test_one_label_alone_is_refused(label: bool) -> None:
    with pytest.raises(UserError, match=f"all 20 answers are labelled {label}: KTO needs good and bad ones"):
        unpaired(marked([label] * 20))


@pytest.mark.parametrize(("rows", "block"), [(1, 8), (7, 8), (8, 8), (64, 8), (65, 8), (10, 3)])
def test_block_sampler_yields_every_row_once(rows: int, block: int) -> None:
    sampler = BlockSampler(rows, block, seed=3)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert len(sampler) == len(order) == rows
        assert sorted(order) == list(range(rows))
        starts = range(0, rows, block)
        assert {tuple(order[i : i + block]) for i in starts} == {tuple(range(i, min(i + block, rows))) for i in starts}


def test_rows_without_kl_pairs_keep_the_trainers_own_sampler(build: Build) -> None:
    trainer = build(pairs(10), method="dpo")
    assert isinstance(trainer._get_train_sampler(), RandomSampler)

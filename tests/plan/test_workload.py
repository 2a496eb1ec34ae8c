"""How many sequences of how many tokens: by hand for each format."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from datasets import Dataset
from omegaconf import DictConfig

from alignzoo.plan.passes import Size
from alignzoo.plan.workload import Lengths, assume_lengths, make_workload, measure_longest, read_lengths
from alignzoo.plugin import registry

Compose = Callable[..., DictConfig]

READ = Lengths(trained=50, scored=60, prompt=20, rows=100, heldout=9)


@pytest.mark.parametrize(
    ("method", "train"),
    [
        *(("dpo", Size(8, 50)), ("orpo", Size(8, 50)), ("kto", Size(4, 50)), ("sft", Size(4, 50))),
        ("grpo", Size(4, 146, packed=50 + 4 * 96, scored=4 * 96)),  # one prompt, and what is sampled for it
    ],
)
def test_a_batch_of_four_rows(method: str, train: Size, compose_config: Compose) -> None:
    cfg = compose_config(f"method={method}", "train.global_batch_size=8")
    found = make_workload(cfg, registry.registry().method(method), READ, devices=1)
    assert (found.train, found.batches) == (train, 2)
    assert (found.score, found.generate) == (Size(9, 60), Size(9, 20 + 96))
    assert found.sample == (Size(8, 146) if method == "grpo" else None), "both batches' answers are sampled at once"
    assert make_workload(cfg, registry.registry().method(method), READ, devices=2).batches == 1


def test_answers_of_several_updates_are_sampled_at_once(compose_config: Compose) -> None:
    of = registry.registry().method("grpo")
    for key, size in (("steps_per_generation", 3), ("generation_batch_size", 12)):
        cfg = compose_config("method=grpo", f"+method.{key}={size}")
        assert make_workload(cfg, of, READ, devices=1).sample == Size(12, 146)


def test_a_reward_model_answers_nothing(compose_config: Compose) -> None:
    found = make_workload(compose_config("method=reward"), registry.registry().method("reward"), READ, devices=1)
    assert (found.score, found.generate, found.sample) == (Size(9, 60), None, None)


def test_few_rows_and_nothing_held_out(compose_config: Compose) -> None:
    few = Lengths(trained=50, scored=0, prompt=0, rows=3, heldout=0)
    found = make_workload(compose_config(), registry.registry().method("dpo"), few, devices=1)
    assert found.train == Size(6, 50)
    assert found.score is found.generate is None


def test_without_data_rows_are_as_long_as_they_may_be(compose_config: Compose) -> None:
    cfg = compose_config("train.max_length=200", "evaluate.rows=5", "evaluate.max_new_tokens=30")
    found = make_workload(cfg, registry.registry().method("dpo"), assume_lengths(cfg), devices=1)
    assert (found.train, found.score, found.generate) == (Size(8, 200), Size(5, 200), Size(5, 130))
    off = compose_config("evaluate.enabled=false")
    assert make_workload(off, registry.registry().method("dpo"), assume_lengths(off), devices=1).generate is None


def test_the_longest_row_is_a_prompt_with_its_longest_answer() -> None:
    rows = Dataset.from_list(
        [
            {"p": [1] * 3, "a": [1] * 5, "b": [1]},
            {"p": [1] * 2, "a": [1], "b": [1] * 7},
            {"p": [1] * 8, "a": [], "b": []},
        ]
    )
    assert measure_longest(rows, "p", ["a", "b"]) == 9
    assert measure_longest(rows, "p", []) == 8
    assert measure_longest(rows.select([]), "p", ["a"]) == 0


@pytest.mark.parametrize("method", ["dpo", "kto", "sft", "grpo"])
def test_lengths_of_real_rows(method: str, compose_config: Compose) -> None:
    from alignzoo.config.check import check
    from alignzoo.train.inputs import prepare_run

    cfg = compose_config(f"method={method}", "model=tiny", "dataset.rows=16", "evaluate.rows=4")
    ready = prepare_run(check(cfg))
    found = read_lengths(ready.checked, ready.data, ready.rows)
    train, held = ready.data.train, ready.data.heldout.select(range(4))
    assert found.heldout == 4
    assert found.prompt == max(map(len, held["prompt_ids"]))
    assert found.scored == max(len(r["prompt_ids"]) + max(len(r["chosen_ids"]), len(r["rejected_ids"])) for r in held)
    answers = {"dpo": ("chosen_ids", "rejected_ids"), "kto": ("chosen_ids", "rejected_ids"), "sft": ("chosen_ids",)}
    whole = [len(r["prompt_ids"]) + max((len(r[name]) for name in answers.get(method, ())), default=0) for r in train]
    assert found.trained == max(whole)

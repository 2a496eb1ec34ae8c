"""What packing leaves of a batch: distinct tokens and labels by hand, and beside the packing that a run makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from omegaconf import DictConfig

from alignzoo.config.check import check
from alignzoo.plan.footprint import make_passes
from alignzoo.plan.packed import Spread, measure_spreads
from alignzoo.plan.passes import Size, lay_out
from alignzoo.plan.skeleton import load_model_config
from alignzoo.plan.workload import make_workload, read_lengths
from alignzoo.plugin import registry
from alignzoo.train.inputs import prepare_run

Compose = Callable[..., DictConfig]

TINY = ("model=tiny", "dataset.rows=8", "evaluate.rows=4", "train.max_steps=1")


def test_the_largest_batch_lies_between_the_mean_and_the_longest_rows() -> None:
    spread = Spread(mean=10.0, deviation=2.0, most=14, rows=1000)
    assert spread.largest(rows=4, batches=1) == 40
    assert spread.largest(rows=4, batches=8) == 46  # 2 x sqrt(4) deviations of 1.43 above
    assert spread.largest(rows=1, batches=10**6) == 14
    assert Spread(10.0, 2.0, 14, rows=4).largest(rows=4, batches=8) == 40, "each batch holds all rows"


@pytest.mark.parametrize("method", ["dpo", "orpo", "kto", "sft"])
def test_tokens_and_labels_of_real_rows(method: str, compose_config: Compose) -> None:
    cfg = compose_config(f"method={method}", *TINY)
    of = registry.registry().method(method)
    rows = prepare_run(check(cfg)).rows
    found = measure_spreads(of, rows)
    columns = {
        "dpo": (("prompt_ids", "chosen_ids", "rejected_ids"), ("chosen_ids", "rejected_ids")),
        "orpo": (("prompt_ids", "chosen_ids", "rejected_ids"),) * 2,
        "kto": (("prompt_ids", "completion_ids"), ("completion_ids",)),
    }
    if method == "sft":
        counts = [[len(row["input_ids"]) for row in rows], [sum(i >= 0 for i in row["labels"]) for row in rows]]
    else:
        counts = [[sum(len(row[name]) for name in names) for row in rows] for names in columns[method]]
    for spread, tokens in zip(found, counts, strict=True):
        assert spread is not None
        assert (spread.mean, spread.most) == (pytest.approx(sum(tokens) / len(rows)), max(tokens))


@pytest.mark.parametrize(
    ("device", "choice", "packed", "scored"),
    [("cpu", "auto", 60, 50), ("cpu", "off", None, None), ("cuda", "auto", None, 50), ("cuda", "on", 60, 50)],
)
def test_a_batch_is_packed_where_the_run_would(
    device: str, choice: str, packed: int | None, scored: int | None, compose_config: Compose
) -> None:
    cfg = compose_config(*TINY, f"speed.shared_prefix={choice}")
    of = registry.registry().method("dpo")
    inputs = prepare_run(check(cfg))
    work = make_workload(cfg, of, read_lengths(inputs.checked, inputs.data, inputs.rows), devices=1)
    work = replace(work, train=Size(4, 40, packed=60, scored=50))
    found = make_passes(cfg, of, load_model_config(cfg.model), work, device, "fp32", cfg.peft).work.train
    assert (found.packed, found.scored) == (packed, scored)


def test_a_batch_is_left_where_packing_would_not_pay(compose_config: Compose) -> None:
    cfg = compose_config(*TINY)
    of = registry.registry().method("dpo")
    inputs = prepare_run(check(cfg))
    work = make_workload(cfg, of, read_lengths(inputs.checked, inputs.data, inputs.rows), devices=1)
    work = replace(work, train=Size(4, 40, packed=159, scored=50))
    assert make_passes(cfg, of, load_model_config(cfg.model), work, "cpu", "fp32", cfg.peft).work.train.packed is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (Size(4, 40, packed=100, scored=60), [(0, 20, 50), (20, 35, 35), (35, 50, 50), (50, 70, 100)]),
        (Size(2, 40, packed=50, scored=50), [(0, 25, 25), (25, 50, 50)]),  # no prompt that is not scored
        (Size(1, 40, packed=1, scored=1), [(0, 1, 1)]),
    ],
)
def test_a_packed_row_is_laid_out_as_pairs(size: Size, expected: list[tuple[int, int, int]]) -> None:
    packed = lay_out(size)
    assert len(packed.source) == size.packed
    assert [(node.start, node.stop, node.end) for node in packed.nodes][: len(expected)] == expected
    assert sum(node.stop - node.start for node in packed.nodes) == size.packed

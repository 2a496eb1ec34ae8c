"""The speed benchmark compares equal trainings, with ratios of paired times; how fast anything is, is not tested."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest

from alignzoo import UserError
from alignzoo.benchmark import command
from alignzoo.benchmark.case import METHODS, Case, cases, choose_cases, gpu_cases, quick_cases
from alignzoo.benchmark.chart import speed_table, write_speed
from alignzoo.benchmark.peer import Peer
from alignzoo.benchmark.random_models import SIZES
from alignzoo.benchmark.scratch import scratch
from alignzoo.benchmark.speed import Run, compare, measure_speed, prepare_case
from alignzoo.benchmark.work import Limit, Weights, count_batch, count_distinct
from alignzoo.cli import run_command

pytestmark = pytest.mark.slow

SMALL = Case("method", "tiny", pairs=2, prompt=20, answer=8)

LIMIT = Limit(Weights(layers=10, head=5), "cpu", "fp32", flops=1000.0)


def batch(learnt: int) -> dict[str, int]:
    return {"tokens": 2 * learnt, "learnt": learnt, "labels": learnt // 2, "scored": 0, "scored_labels": 0}


@pytest.fixture(scope="module")
def rows(cache: Path) -> list[dict[str, Any]]:
    """One step that warms up and two that count, of three methods, by alignzoo and by the plain TRL script."""
    chosen = [replace(SMALL, method=method) for method in ("dpo", "kto", "grpo")]
    return measure_speed(chosen, steps=2, tell=lambda line: None)


def test_both_programs_train_the_same(rows: list[dict[str, Any]]) -> None:
    """The losses of every method are those of the plain TRL script, step by step."""
    differences = {row["method"]: row["loss_difference"] for row in rows if row["program"] == "trl"}
    assert differences.keys() == {"dpo", "kto", "grpo"}
    assert max(differences.values()) < command.SAME
    assert any(difference > 0 for difference in differences.values())  # not the same program twice


def test_every_program_is_measured_by_itself(rows: list[dict[str, Any]]) -> None:
    passes = {row["method"]: row["reference_seconds"] for row in rows if row["program"] == "alignzoo"}
    assert passes["dpo"] > 0
    assert passes["kto"] > 0
    assert passes["grpo"] == 0
    assert all(row["reference_seconds"] == 0 for row in rows if row["program"] == "trl")
    assert all(row["peak_bytes"] > 1e8 and 0 < row["flop_share"] < 1 for row in rows)
    assert all(row["faster_with_reference"] <= row["faster"] for row in rows)


def test_table_and_plot_are_written(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    write_speed(rows, tmp_path)
    written = pandas.read_csv(tmp_path / "speed.csv")
    assert written["faster"].tolist() == pytest.approx([row["faster"] for row in rows])
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / "speed.svg").read_text()
    assert speed_table(rows).row_count == 3


def test_ratios_are_medians_of_those_within_a_turn() -> None:
    ours, theirs = Run(reference=4.0), Run(reference=0.0)
    ours.seconds, theirs.seconds = [9.0, 1.0, 10.0, 2.0], [9.0, 2.0, 40.0, 2.0]  # the first warms up
    ours.losses, theirs.losses = [1.0, 2.0], [1.0, 2.5]
    ours.peak, theirs.peak = 50, 200
    ours.batches = [batch(10**6), batch(8), batch(10), batch(14), batch(10**6)]  # one was read ahead
    mine, row = compare(SMALL, LIMIT, {"alignzoo": ours, "trl": theirs})
    assert row["faster"] == 2.0  # of 2, 4 and 1
    assert row["faster_with_reference"] == 1.0  # of 2/2, 40/11 and 2/3
    assert (row["memory"], row["loss_difference"]) == (0.25, 0.5)
    assert row["seconds"] == 2.0
    assert row["tokens_per_second"] == pytest.approx(2 * 32 / 44)
    least = 6 * (10 * 32 + 5 * 16) / 1000
    assert (row["flop_share"], mine["flop_share"]) == pytest.approx((least / 44, least / 13))


@pytest.mark.parametrize(("difference", "code"), [(0.9e-4, 0), (1.1e-4, 1), (math.nan, 1)])
def test_losses_that_differ_are_a_failure(
    difference: float, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = Run(0.0), Run(0.0)
    for run, loss in ((ours, 1.0), (theirs, 1.0 + difference)):
        run.seconds, run.losses, run.peak = [1.0, 1.0], [1.0, loss], 1
    ours.batches = [batch(4), batch(4)]
    found = compare(SMALL, LIMIT, {"alignzoo": ours, "trl": theirs})
    monkeypatch.setitem(command.PARTS, "speed", command.Part(lambda options: found, speed_table))
    assert run_command(["benchmark", "--only", "speed", "--out", str(tmp_path)]) == code
    assert ("the losses differ" in capsys.readouterr().out) == bool(code)
    assert run_command(["benchmark", "--only", "speed", "--add", "--out", str(tmp_path)]) == code
    assert len(pandas.read_csv(tmp_path / "speed.csv")) == 4


def test_tokens_are_counted_once_where_they_are_shared() -> None:
    assert count_distinct([[1, 2, 3], [1, 2, 4, 5], [1, 9], [7], [7]]) == 7
    assert count_distinct([]) == 0
    pair = {"prompt_ids": [0] * 5, "chosen_ids": [1] * 3, "rejected_ids": [2] * 2}
    other = {"prompt_ids": [3] * 5, "chosen_ids": [1] * 3, "rejected_ids": [2] * 2}
    single = {"prompt_ids": [0] * 5, "completion_ids": [1] * 3, "KL_completion_ids": [2] * 4}
    group = {"prompt": [0] * 5, "answers": [[1] * 3, [2] * 2, [3]]}

    def counts(*rows: Any, prompts: bool = False) -> tuple[int, ...]:
        return tuple(count_batch(rows, prompts).values())

    assert counts(pair) == (15, 10, 5, 0, 0)
    assert counts(pair, prompts=True) == (15, 10, 10, 0, 0)
    assert counts(pair, other) == (30, 20, 10, 0, 0)
    assert counts(pair, pair) == (30, 10, 5, 0, 0)
    assert counts(single) == (8, 8, 3, 9, 4)
    assert counts(group) == (21, 11, 6, 0, 0)


def test_the_rows_of_each_step_are_known(cache: Path, tmp_path: Path) -> None:
    """TRL counts the tokens of its batches: step by step, whichever rows the sampler takes first."""
    from alignzoo.benchmark.sides.with_alignzoo import remember_rows
    from alignzoo.benchmark.steps import Side

    trainer = Side(["model=tiny", "dataset.rows=12", "train.max_steps=3"], tmp_path).alignzoo()
    batches = remember_rows(trainer)
    trainer.train()
    seen = [line["num_tokens"] for line in trainer.state.log_history if "loss" in line]
    tokens = [count_batch(rows)["tokens"] for rows in batches[:3]]
    assert seen == [sum(tokens[: number + 1]) for number in range(3)]
    assert len(set(tokens)) > 1


def test_the_limit_is_the_machines_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that was measured while the machine was busy would make the share larger than it is."""
    rates = iter([5.0, 9.0, 7.0])
    monkeypatch.setattr("alignzoo.plan.seconds.measure_products", lambda device, precision: next(rates))
    limit = replace(LIMIT, flops=0.0)
    for _ in range(3):
        limit.measure()
    assert limit.flops == 9.0
    assert limit.compute_share([batch(8), batch(8)], [2.0, 4.0]) == pytest.approx(6 * (10 * 16 + 5 * 8) / 9 / 6)


def test_embeddings_are_looked_up_and_not_multiplied(cache: Path) -> None:
    from alignzoo.benchmark.steps import Side
    from alignzoo.benchmark.work import count_weights

    side = Side(["model=tiny", "dataset.rows=4"], cache)
    model = side.policy()
    table, total = model.get_input_embeddings().weight, sum(weight.numel() for weight in model.parameters())
    assert model.config.tie_word_embeddings
    assert count_weights(side) == Weights(layers=total - table.numel(), head=table.numel())


def test_cases_differ_in_one_thing_at_a_time() -> None:
    base = cases("tiny")[0]
    for case in cases("tiny"):
        differing = {"method": ("method",), "batch": ("pairs",), "lengths": ("prompt", "answer")}[case.varied]
        assert replace(case, varied="method", **{name: getattr(base, name) for name in differing}) == base
    assert {case.method for case in quick_cases()} == set(METHODS)
    assert {case.varied for case in choose_cases(True, "batch")} == {"batch"}


def test_own_pairs_take_the_place_of_made_up_ones(cache: Path) -> None:
    data = "package://alignzoo.data/concise/train.jsonl"
    case, *others = choose_cases(True, None, data)
    assert [one.method for one in (case, *others)] == ["dpo", "ipo", "orpo", "grpo"]
    assert case.name == "dpo tiny 4 of train.jsonl"
    with scratch() as folder:
        settings, _ = prepare_case(case, 2, folder / "case")
        assert len(pandas.read_json(settings["rows"], lines=True)) == 8
        assert not (folder / "case" / "rows.parquet").exists()


def test_words_reach_both_programs(cache: Path, tmp_path: Path) -> None:
    """A row whose completions are equal stops the benchmark, with a message that names a word for it."""
    lines = [{"prompt": f"What is {name}?", "chosen": "Ask them.", "rejected": "No."} for name in "abcdef"]
    pairs = tmp_path / "pairs.json"
    pairs.write_text(json.dumps([*lines, {"prompt": "Who?", "chosen": "Me.", "rejected": "Me."}]))
    words = ("dataset.bad_rows=drop", "train.weight_decay=0.3")
    case, dropping = (choose_cases(True, None, str(pairs), given)[0] for given in ((), words))
    assert dropping.name == "dpo tiny 4 of pairs.json dataset.bad_rows=drop train.weight_decay=0.3"
    with scratch() as folder:
        with pytest.raises(UserError, match=r"dataset\.bad_rows=drop"):
            prepare_case(case, 1, folder / "stopped")
        settings, _ = prepare_case(dropping, 1, folder / "dropped")
        assert len(pandas.read_json(settings["rows"], lines=True)) == 4
    assert settings["arguments"]["weight_decay"] == 0.3
    assert settings["overrides"][-2:] == [*words]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("train.max_steps=3", "the benchmark sets train.max_steps itself"),
        ("+train.global_batch_size=3", "the benchmark sets train.global_batch_size itself"),
        ("train.per_device_batch_tokens=99", "the benchmark sets train.per_device_batch_tokens itself"),
        ("peft=lora", "the plain TRL script does not follow peft"),
        ("model.dtype=bfloat16", r"does not follow model\.dtype"),
    ],
)
def test_words_that_would_compare_other_things_are_refused(word: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        choose_cases(True, None, words=("seed=3", word))


def test_words_for_another_part_are_refused() -> None:
    with pytest.raises(UserError, match=r"for the part speed, not for --only start"):
        run_command(["benchmark", "--only", "start", "train.max_length=64"])


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_cases_of_a_gpu_need_one() -> None:
    with pytest.raises(UserError, match="there is no CUDA device here"):
        choose_cases(False, "gpu")


def test_a_random_model_trains_through_the_same_script(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """What a GPU's cases begin with, on a model of their family that a CPU takes."""
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 1100}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    assert {case.model for case in gpu_cases()} <= SIZES.keys()
    assert all(SIZES[case.model].keys() == {*small, *heads} for case in gpu_cases())
    monkeypatch.setitem(SIZES, "0.5b", small | heads)
    with scratch() as folder:
        settings, limit = prepare_case(replace(SMALL, model="0.5b"), 2, folder / "case")
        assert (Path(settings["model"]) / "model.safetensors").exists()
        assert "speed.shared_prefix=on" in settings["overrides"]
        assert limit.weights.head == small["vocab_size"] * small["hidden_size"]


def test_the_shapes_are_the_published_ones() -> None:
    """Parameters of Qwen2.5-0.5B and 1.5B, by their cards: 0.49 and 1.54 billion."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    found = {}
    for name, shape in SIZES.items():
        with torch.device("meta"):
            model = Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=True))
        found[name] = round(sum(weight.numel() for weight in model.parameters()) / 1e9, 2)
    assert found == {"0.5b": 0.49, "1.5b": 1.54}


def test_a_program_that_fails_is_told_with_its_last_words(tmp_path: Path) -> None:
    peer = Peer("trl", [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"], tmp_path / "log")
    try:
        peer.process.wait()
        with pytest.raises(UserError, match=r"(?s)trl failed with exit code 3:.*no such model"):
            peer.begin({})
    finally:
        peer.close()


def test_the_cache_is_the_benchmarks_own_for_a_while(cache: Path) -> None:
    import os

    with scratch() as folder:
        assert os.environ["ALIGNZOO_CACHE"] == str(folder / "cache")
        assert (folder / "cache" / "models").resolve() == (cache / "models").resolve()
        assert not (folder / "cache" / "reference").exists()
    assert os.environ["ALIGNZOO_CACHE"] == str(cache)
    assert not folder.exists()

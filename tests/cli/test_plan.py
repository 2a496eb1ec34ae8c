"""`alignzoo plan`: the table, what fits, what to change, and JSON."""

from __future__ import annotations

import contextlib
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from alignzoo.cli import run_command
from alignzoo.system.errors import UserError

TINY = ["model=tiny", "train.max_length=64", "evaluate.rows=2", "evaluate.max_new_tokens=8"]


@cache
def planned(*words: str) -> tuple[int, dict[str, Any]]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = run_command(["plan", *TINY, *words, "--json"])
    return code, json.loads(out.getvalue())


def test_a_table_of_strategies_and_adapters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", *TINY, "--devices", "8", "--memory", "80", "--tflops", "400"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["GiB", "per", "device", "peft=none", "peft=lora", "peft=qlora"] in lines
    rows = {line[0]: line for line in lines if line and line[0] in ("single", "ddp", "fsdp", "zero2", "zero3")}
    assert list(rows) == ["single", "ddp", "fsdp", "zero2", "zero3"]
    assert rows["ddp"][1:3] == ["(this", "run)"], "the strategy auto, on several devices"
    assert rows["single"].count("fits") == 3
    assert rows["zero3"][-1] == "-", "weights in 4 bits are not divided"
    assert "dpo, bf16 on 8 x cuda of 80 GiB, 1 batch(es) of 2 sequences of 64 tokens per step" in out
    assert "note: 8 devices need a train.global_batch_size that is a multiple of 8; it is 4." in out
    assert "s per step, at half of 400.00 TFLOP/s, as given" in out


def test_the_chosen_strategy_is_taken_apart() -> None:
    code, found = planned("--devices", "2", "--memory", "80")
    entry = found["table"]["ddp"]["none"]
    assert code == 0
    assert entry["fits"]
    assert entry["bytes"] == sum(entry["held"].values())
    assert entry["held"]["fixed"] == 2**30
    assert found["parameters"] == found["trained"] > 100_000
    assert found["update_seconds"] is None, "no GPU here to measure, and no --tflops"


def test_more_devices_take_less_where_state_is_divided() -> None:
    tables = [planned("--devices", n, "--memory", "80")[1]["table"] for n in ("2", "8")]
    held = [{name: table[name]["none"]["held"].get("optimizer") for name in table} for table in tables]
    assert held[0]["zero2"] == pytest.approx(4 * held[1]["zero2"], rel=0.01)
    assert held[0]["ddp"] == held[1]["ddp"]


def test_what_to_change_where_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "train.max_length=1024", "train.gradient_checkpointing=false", "train.per_device_batch_size=4"]
    assert run_command(["plan", *words, "--memory", "1.25"]) == 1
    out = capsys.readouterr().out
    assert "nothing fits as it is; it does with train.per_device_batch_size=1" in out
    assert run_command(["plan", *words, "--memory", "0.5"]) == 1
    assert "nothing fits, also with one row at a time and gradient checkpointing" in capsys.readouterr().out


def test_what_fits_is_named_where_the_chosen_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = planned("--devices", "2", "--memory", "80")[1]["table"]
    between = (sizes["ddp"]["lora"]["bytes"] + sizes["ddp"]["none"]["bytes"]) / 2 / 2**30
    assert run_command(["plan", *TINY, "--devices", "2", "--memory", f"{between:.6f}"]) == 1
    assert "ddp with peft=none does not fit; strategy=" in capsys.readouterr().out


def test_this_machine_is_measured() -> None:
    code, found = planned("strategy.device=cpu", "method=grpo", "reward=length", "method.max_completion_length=8")
    assert code == 0
    assert found["rate"]["measured"]
    assert found["update_seconds"]["training"] > 0
    assert found["update_seconds"]["sampling"] > 0
    assert found["table"]["single"]["qlora"] is None, "4 bits need a GPU"


def test_with_the_data_the_plan_of_updates_is_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", *TINY, "train.max_length=1024", "dataset.rows=8", "--data", "--memory", "80"]) == 0
    out = capsys.readouterr().out
    assert "plan: 8 rows, 2 steps, 16 sequences, " in out
    assert "sequences of 1,024 tokens" not in out


@pytest.mark.parametrize("words", [["--devices", "0"], ["--memory", "-1"], ["--tflops", "nan"]])
def test_numbers_must_be_above_zero(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", *TINY, *words]) == 2
    assert f"Invalid value for '{words[0]}': must be above 0" in capsys.readouterr().err


def test_options_and_overrides_come_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = TINY
    assert run_command(["plan", first, "--devices", "8", *others, "--memory=80", "--tflops", "400", "method=kto"]) == 0
    assert "kto" in capsys.readouterr().out


def test_a_gpu_that_is_not_here_needs_its_memory(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(UserError, match="--memory GIB"):
        run_command(["plan", *TINY, "--devices", "2"])


def test_a_generation_is_planned_in_answers_and_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    words = (*("+generate=pairs", "dataset.rows=16", "generate.samples=6", "reward=length"),)
    code, found = planned(*words)
    assert code == 0
    assert (found["prompts"], found["answers"], found["tokens_at_most"]) == (16, 96, 96 * 8)
    capsys.readouterr()
    assert run_command(["plan", *TINY, *words]) == 0
    told = "plan: 96 answers, 6 to each prompt, of at most 8 tokens (768 in all), scored by reward=length\n"
    assert capsys.readouterr().out.endswith(told)

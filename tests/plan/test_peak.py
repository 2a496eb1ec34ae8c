"""The plan beside what real trainings hold: every method, all weights and LoRA, within 15 %.

The bytes of all tensors alive are counted in the real trainer, in the way in which the plan counts those of tensors
without values, so that no allocator is in between. Resident memory: docs/how-to/plan.md.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import QUICK
from inprocess import run
from omegaconf import DictConfig
from repository import REAL_DATA

from alignzoo.config.check import check
from alignzoo.plan import footprint
from alignzoo.plan.footprint import make_passes, plan_peak
from alignzoo.plan.live_bytes import LiveBytes
from alignzoo.plan.phases import list_phases
from alignzoo.plan.sharding import SHARDINGS
from alignzoo.plan.skeleton import load_model_config
from alignzoo.plan.workload import make_workload, read_lengths
from alignzoo.runs.record import Record
from alignzoo.system import memory
from alignzoo.system.limits import format_bytes
from alignzoo.train.callbacks import make_callbacks
from alignzoo.train.inputs import prepare_run

Compose = Callable[..., DictConfig]

METHODS = ("dpo", "ipo", "kto", "orpo", "sft", "grpo", "rloo", "reward")
SAMPLED = ("method.max_completion_length=24", "reward=length", "reward.length.slack=500")

WORDS = (
    "model=tiny",
    "dataset.rows=8",
    "train.max_steps=2",
    "evaluate.enabled=false",
    "method.learning_rate=1e-4",
)


def held(cfg: DictConfig, folder: Path) -> tuple[int, int]:
    """Train; return the bytes that were alive at once beside the weights, and those that were planned."""
    inputs = prepare_run(check(cfg))
    checked, method = inputs.checked, inputs.method
    args = inputs.make_trl_config(folder)
    trainer = inputs.build_trainer(args, inputs.load_model(), make_callbacks(checked, Record(folder)))
    with LiveBytes(trainer.model) as live:
        trainer.train()
    work = make_workload(cfg, method, read_lengths(checked, inputs.data, inputs.rows), devices=1)
    passes = make_passes(cfg, method, load_model_config(cfg.model), work, "cpu", checked.precision, cfg.peft)
    there = ("weights", "reference", "start model", "freed gradients", "gaps")
    found = list_phases(passes, SHARDINGS["single"])
    in_training = [phase for phase in found if phase.name in ("sampling", "training", "optimizer step")]
    planned = max(sum(size for name, size in phase.held.items() if name not in there) for phase in in_training)
    return sum(live.find_peak()), planned


def words_of(method: str, *more: str) -> list[str]:
    return [f"method={method}", *(SAMPLED if method in ("grpo", "rloo") else ()), *more]


@pytest.mark.parametrize(
    "words",
    [
        *(words_of(method, f"peft={peft}") for method in METHODS for peft in ("none", "lora")),
        *(words_of(method, "speed.shared_prefix=off") for method in ("dpo", "grpo")),
        words_of("dpo", "train.per_device_batch_size=2"),
        words_of("dpo", "train.gradient_checkpointing=true"),
    ],
    ids=" ".join,
)
def test_the_plan_is_within_fifteen_percent(words: list[str], compose_config: Compose, tmp_path: Path) -> None:
    measured, planned = held(compose_config(*WORDS, *words), tmp_path)
    assert planned == pytest.approx(measured, rel=0.15)


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data is missing: it is not part of the repository")
@pytest.mark.parametrize("peft", ["none", "lora"])
def test_the_plan_of_long_dialogues_is_within_five_percent(peft: str, compose_config: Compose, tmp_path: Path) -> None:
    """Most bytes are then activations: no key is repeated for its queries. All rows are one batch."""
    pairs = ("dataset=local", f"dataset.path={REAL_DATA / 'dpo_sharegpt_150.json'}", "dataset.bad_rows=drop")
    words = ("dataset.rows=4", "train.max_steps=1", f"peft={peft}")
    measured, planned = held(compose_config(*WORDS, *pairs, *words), tmp_path)
    assert planned == pytest.approx(measured, rel=0.05)


def test_the_plan_stands_beside_the_measured_peak(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "method=dpo", *QUICK, "train.max_steps=1")
    cost = done.result()["cost"]
    assert 0 < cost["planned_memory_bytes"] < 4 * cost["peak_memory_bytes"]
    assert f"planned {format_bytes(cost['planned_memory_bytes'])}" in done.out


def test_a_model_that_cannot_be_followed_stops_no_run(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("data-dependent")

    monkeypatch.setattr("alignzoo.plan.skeleton.build_skeleton", broken)
    footprint._find_peak.cache_clear()
    cfg = compose_config("model=tiny", "dataset.rows=8")
    inputs = prepare_run(check(cfg))
    assert plan_peak(inputs.checked, inputs.start, inputs.data, inputs.rows) is None
    assert "cannot be planned: RuntimeError: data-dependent" in caplog.text


def test_a_model_that_was_trained_is_planned_as_its_start_model(
    compose_config: Compose, tmp_path: Path, start: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TRL saves it with ``use_cache`` off, and sampling has a cache all the same. Six short pairs, as a first try."""
    trained = shutil.copytree(start, tmp_path / "trained")
    file = trained / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_cache": False}))
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"What is {name}?", "chosen": "Ask.", "rejected": "No."} for name in "abcdef"]
    pairs.write_text("\n".join(map(json.dumps, rows)))
    words = ("model=local", "dataset=local", f"dataset.path={pairs}", "dataset.heldout.fraction=0.5")

    def plan(model: Path) -> int | None:
        short = ("strategy.device=cpu", "evaluate.max_new_tokens=4")
        inputs = prepare_run(check(compose_config(*words, *short, f"model.path={model}")))
        return plan_peak(inputs.checked, inputs.start, inputs.data, inputs.rows)

    assert plan(trained) == pytest.approx(plan(start), rel=0.05)
    assert not caplog.text


def test_what_cannot_be_followed_prints_no_traceback(
    compose_config: Compose, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """torch logs it, with its own handler, before it raises."""
    import torch

    def broken(*_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros(2, 3) + torch.zeros(2, 4)

    torch._logging.set_logs()  # with handlers, as in a process of its own
    inputs = prepare_run(check(compose_config("model=tiny", "dataset.rows=8")))
    monkeypatch.setattr("alignzoo.plan.loss_memory.torch.log_softmax", broken)
    monkeypatch.setattr("alignzoo.plan.passes.compute_chunked_loss", broken)
    footprint._find_peak.cache_clear()
    assert plan_peak(inputs.checked, inputs.start, inputs.data, inputs.rows) is None
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err


def test_the_jobs_of_a_sweep_are_planned_once(compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another beta changes no byte; a longer completion, an adapter or a method that holds more does."""
    made = []

    def counted(*arguments: Any) -> Any:
        made.append(arguments)
        return make_passes(*arguments)

    def plan(*words: str) -> int | None:
        inputs = prepare_run(check(compose_config("model=tiny", "dataset.rows=8", "strategy.device=cpu", *words)))
        return plan_peak(inputs.checked, inputs.start, inputs.data, inputs.rows)

    monkeypatch.setattr(footprint, "make_passes", counted)
    footprint._find_peak.cache_clear()
    for words in ((), ("method.beta=0.3",), ("method.learning_rate=1e-3",)):
        plan(*words)
    assert len(made) == 1
    for words in (("evaluate.max_new_tokens=9",), ("peft=lora",), ("method=sft",), ("train.per_device_batch_size=2",)):
        plan(*words)
    assert len(made) == 5


def test_idle_memory_is_that_of_a_process_with_torch() -> None:
    assert 50 * 2**20 < memory.read_resident() <= memory.read_peak() < 20 * 2**30


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts a peak anew")
def test_a_plan_leaves_out_what_was_freed_before_it(compose_config: Compose) -> None:
    """As after a model was converted, the C library keeps much that the training takes again."""
    cfg = compose_config("model=tiny", "dataset.rows=8", "strategy.device=cpu")
    inputs = prepare_run(check(cfg))
    planned = (inputs.checked, inputs.start, inputs.data, inputs.rows)
    first = plan_peak(*planned)
    freed = [bytearray(64_000) for _ in range(4_000)]  # each in the C library's heap, with one above it
    kept = bytearray(64_000)
    for block in freed:
        block[::4096] = b"x" * len(block[::4096])
    del block, freed
    assert first is not None
    assert plan_peak(*planned) == pytest.approx(first, abs=100e6)
    assert kept


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone counts a peak anew")
def test_a_run_of_a_sweep_has_a_peak_of_its_own() -> None:
    """In the same process, with the memory that the run before it has freed."""
    memory.reset_peak()
    before = memory.read_resident()
    kept, freed = [], [bytearray(64_000) for _ in range(4_000)]  # each in the C library's heap, with one above it
    kept.append(bytearray(64_000))
    for block in freed:
        block[::4096] = b"x" * len(block[::4096])
    assert memory.read_peak() > before + 200e6
    del block, freed
    memory.reset_peak()
    assert memory.read_resident() < before + 50e6
    assert memory.read_peak() < before + 100e6
    assert kept

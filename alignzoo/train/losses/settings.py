"""Brings a run's settings of method and loss onto the tiny model on which losses are verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from alignzoo.config.keys import TYPES
from alignzoo.config.trl_fields import read_config_fields
from alignzoo.plugin.registry import registry

if TYPE_CHECKING:
    from omegaconf import DictConfig

#: transformers' fields that change a loss; its others say how a run trains, saves and logs.
LOSS_FIELDS = frozenset({"label_smoothing_factor"})

#: Fields of `method` that stay the tiny model's: how many completions it samples, and what it cannot follow.
FIXED = (
    *("num_generations", "max_completion_length", "num_iterations", "generation_batch_size", "steps_per_generation"),
    *("num_generations_eval", "use_vllm", "model_init_kwargs", "router_aux_loss_coef"),
)


def settle(tiny: DictConfig, cfg: DictConfig) -> DictConfig:
    """Return ``tiny``, with the settings of the run ``cfg``, which may be ``tiny`` itself, in place of its own.

    TRL's fields that the run sets under ``train`` then stand under ``method``, where an equation reads them.
    """
    method = registry().method(cfg.method.name)
    known, left_out = _list_loss_fields(method.config), {*FIXED, *method.row_options}
    further = {key: value for key, value in _read(cfg.train).items() if key in known}
    own = {key: value for key, value in _read(cfg.method).items() if key not in left_out}
    fixed = {key: value for key, value in _read(tiny.method).items() if key in FIXED}
    settled = tiny.copy()
    settled.method = OmegaConf.create({**further, **own, **fixed})
    return settled


def list_changes(tiny: DictConfig, cfg: DictConfig) -> dict[str, DictConfig]:
    """Return each setting of the run ``cfg`` that is not that of ``tiny``, as a word, with ``tiny`` under it alone."""
    own, now = _read(tiny.method), settle(tiny, cfg)
    changed = {key: value for key, value in now.method.items() if key not in own or tiny.method[key] != value}
    alone = {}
    for key, value in changed.items():
        alone[f"method.{key}={value}"] = one = tiny.copy()
        OmegaConf.update(one, f"method.{key}", value, force_add=True)
    return alone


def _read(group: DictConfig) -> dict[str, Any]:
    """Return the keys of a group; interpolations stay, and are resolved again among the tiny model's keys."""
    fields: dict[str, Any] = OmegaConf.to_container(group, resolve=False)  # type: ignore[assignment]
    return fields


def _list_loss_fields(config: str) -> set[str]:
    """Return the fields of a TRL config that may change a loss, but for those that are alignzoo's own."""
    general = read_config_fields("transformers:TrainingArguments").keys() - LOSS_FIELDS
    return set(read_config_fields(config)) - general - {key.removeprefix("train.") for key in TYPES}

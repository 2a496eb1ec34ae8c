"""Turns a checked config into the arguments of the method's TRL config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo.config.placement import micro_batch, processes
from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import read_config_fields
from alignzoo.plugin.method import import_object
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig

    from alignzoo.plan.updates import Plan
    from alignzoo.plugin.method import Method

#: Keys of `train` that the core turns into TRL's own.
OWN_TRAIN_KEYS = frozenset(
    {
        *("global_batch_size", "per_device_batch_size", "per_device_batch_tokens", "max_length", "precision"),
        *("gradient_checkpointing", "budget", "stop_before"),
    }
)

OWN_METHOD_KEYS = frozenset({"name", "learning_rates"})  #: keys of `method` that no TRL config has


def trl_items(cfg: DictConfig, group: str, method: type[Method]) -> dict[str, Any]:
    """Return the keys of ``cfg.<group>`` that go to the TRL config, as plain containers."""
    own = OWN_METHOD_KEYS | method.options if group == "method" else OWN_TRAIN_KEYS
    items: dict[str, Any] = to_plain(cfg[group])
    return {key: value for key, value in items.items() if key not in own}


def trl_config(
    cfg: DictConfig,
    method: type[Method],
    folder: Path,
    device: str,
    precision: str,
    plan: Plan | None = None,
    **more: Any,
) -> Any:
    """Return ``method.config``, filled with :func:`trl_arguments` and ``more``.

    Raises:
        UserError: TRL or transformers refuses a value.
    """
    arguments = trl_arguments(cfg, method, folder, device, precision, plan) | more
    try:
        return import_object(method.config)(**arguments)
    except (ValueError, TypeError, NotImplementedError) as error:
        name = method.config.split(":")[1]
        raise UserError(f"method and train: {name} refuses its values: {' '.join(str(error).split())}") from error


def trl_arguments(
    cfg: DictConfig, method: type[Method], folder: Path, device: str, precision: str, plan: Plan | None = None
) -> dict[str, Any]:
    """Return the arguments for ``method.config``; ``precision`` is fp32, bf16 or fp16, ``device`` a torch one.

    A ``plan`` bounds the run where ``train.budget`` does, and says how many updates a share of them is.
    """
    fields = read_config_fields(method.config)
    checkpointing = cfg.train.gradient_checkpointing
    arguments = {
        "output_dir": str(folder / "checkpoints"),
        "run_name": folder.name,
        "seed": cfg.seed,
        "data_seed": cfg.seed,
        "use_cpu": device == "cpu",
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_checkpointing": device != "cpu" if checkpointing == "auto" else checkpointing,
        "per_device_train_batch_size": micro_batch(cfg),
        "per_device_eval_batch_size": min(cfg.train.per_device_batch_size, micro_batch(cfg)),
        "gradient_accumulation_steps": cfg.train.global_batch_size // (micro_batch(cfg) * processes(cfg)),
        "max_length": cfg.train.max_length,  # no row is longer; caps only KTO's pairs of a prompt with another's answer
        "trust_remote_code": cfg.model.trust_remote_code,
        "report_to": cfg.tracker.report_to,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # otherwise a NaN loss is logged as 0
        "disable_tqdm": True,  # our own progress bar shows the method's numbers
        "ddp_find_unused_parameters": False,
        "ddp_backend": "gloo" if device == "cpu" and processes(cfg) > 1 else None,
    }
    known: dict[str, Any] = {key: value for key, value in arguments.items() if not fields or key in fields}
    known |= to_plain(cfg.strategy.args)
    chosen = trl_items(cfg, "train", method) | trl_items(cfg, "method", method) | dict(method.pinned)
    if plan is None:
        return known | chosen
    if chosen.get("warmup_steps", 1) < 1:  # transformers rounds up: the only update of a short run would be at rate 0
        chosen["warmup_steps"] = int(chosen["warmup_steps"] * plan.updates)
    return known | chosen | ({"max_steps": plan.bound} if plan.bound > 0 else {})

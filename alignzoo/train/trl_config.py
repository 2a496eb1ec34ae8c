"""Turns a checked configuration into the method's TRL config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alignzoo.config.plain import to_plain
from alignzoo.config.trl_fields import read_config_fields, trl_items
from alignzoo.plugin.method import import_object
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from alignzoo.config.checked import Checked
    from alignzoo.evaluate.toolbox import Toolbox
    from alignzoo.plan.budget import Plan


def make_trl_config(checked: Checked, folder: Path, plan: Plan | None = None, **more: Any) -> Any:
    """Return ``method.config``, filled with :func:`make_trl_arguments` and ``more``.

    Raises:
        UserError: TRL or transformers refuses a value.
    """
    spec = checked.method.config
    try:
        return import_object(spec)(**make_trl_arguments(checked, folder, plan) | more)
    except (ValueError, TypeError, NotImplementedError) as error:
        name = spec.split(":")[1]
        raise UserError(f"method and train: {name} refuses its values: {' '.join(str(error).split())}") from error


def make_trl_arguments(checked: Checked, folder: Path, plan: Plan | None = None) -> dict[str, Any]:
    """Return the arguments for ``method.config`` of a run in ``folder``.

    A ``plan`` bounds the run where ``train.budget`` does, and says how many steps a share of them is.
    """
    fields = read_config_fields(checked.method.config)
    arguments = _derive_arguments(checked, folder)
    known: dict[str, Any] = {key: value for key, value in arguments.items() if not fields or key in fields}
    known |= to_plain(checked.cfg.strategy.args)
    chosen = {**trl_items(checked.cfg, "train", checked.method), **trl_items(checked.cfg, "method", checked.method)}
    chosen |= checked.method.pinned
    if plan is None:
        return known | chosen
    if chosen.get("warmup_steps", 1) < 1:  # transformers rounds up: the only step of a short run would be at rate 0
        chosen["warmup_steps"] = int(chosen["warmup_steps"] * plan.updates)
    return known | chosen | ({"max_steps": plan.bound} if plan.bound > 0 else {})


def limit_turns(checked: Checked, toolbox: Toolbox) -> dict[str, Any]:
    """Return TRL's arguments that bound the turns of a completion, as far as the method's config has them."""
    fields, method = read_config_fields(checked.method.config), checked.cfg.method
    found: dict[str, Any] = {}
    if "max_tool_calling_iterations" in fields and "max_tool_calling_iterations" not in method:
        found["max_tool_calling_iterations"] = toolbox.turns
    if toolbox.turn_tokens is not None:
        key = "max_tokens" if method.get("use_vllm") else "max_new_tokens"
        found["generation_kwargs"] = {key: toolbox.turn_tokens, **to_plain(method.get("generation_kwargs") or {})}
    return found


def _derive_arguments(checked: Checked, folder: Path) -> dict[str, Any]:
    """Return TRL's arguments that follow from alignzoo's own keys; not every method's config has them all."""
    cfg, device, placement = checked.cfg, checked.device, checked.placement
    checkpointing = cfg.train.gradient_checkpointing
    return {
        "output_dir": str(folder / "checkpoints"),
        "run_name": folder.name,
        "seed": cfg.seed,
        "data_seed": cfg.seed,
        "use_cpu": device == "cpu",
        "bf16": checked.precision == "bf16",
        "fp16": checked.precision == "fp16",
        "gradient_checkpointing": device != "cpu" if checkpointing == "auto" else checkpointing,
        "per_device_train_batch_size": placement.micro_batch,
        "per_device_eval_batch_size": min(cfg.train.per_device_batch_size, placement.micro_batch),
        "gradient_accumulation_steps": placement.accumulation_steps,
        "max_length": cfg.train.max_length,  # no row is longer; caps only KTO's pairs of a prompt with another's answer
        "trust_remote_code": cfg.model.trust_remote_code,
        "report_to": cfg.tracker.report_to,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # otherwise a NaN loss is logged as 0
        "disable_tqdm": True,  # our own progress bar shows the method's numbers
        "ddp_find_unused_parameters": False,
        "ddp_backend": "gloo" if device == "cpu" and placement.processes > 1 else None,
    }

"""Reads the group ``peft``: the adapter that trains, the modules that it sits on, and 4-bit weights below it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from alignzoo.config.check import ADAPTER_KEYS
from alignzoo.config.plain import to_plain
from alignzoo.plugin.method import ModelKind
from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from peft import PeftConfig


def adapter_config(cfg: DictConfig, kind: ModelKind = ModelKind.POLICY) -> PeftConfig | None:
    """Return the LoRA configuration of ``peft``, or None where all weights train; a reward model's head trains too."""
    if cfg.name == "none":
        return None
    from peft import LoraConfig

    fields = {key: value for key, value in to_plain(cfg).items() if key not in ADAPTER_KEYS}
    return LoraConfig(task_type="SEQ_CLS" if kind is ModelKind.REWARD_MODEL else "CAUSAL_LM", **fields)


def check_targets(model: Any, targets: Any) -> None:
    """Refuse modules for an adapter that the model does not have: a list's names are endings, a text is a pattern."""
    names = [name for name, _ in model.named_modules()]
    if targets is None or targets == "all-linear":
        return
    if isinstance(targets, str):
        unknown = [] if any(re.fullmatch(targets, name) for name in names) else [targets]
    else:
        unknown = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in names)]
    if unknown:
        known = sorted({name.rpartition(".")[2] for name, module in model.named_modules() if _is_linear(module)})
        raise UserError(f"peft.target_modules: the model has no {', '.join(unknown)}; it has {', '.join(known)}.")


def quantization_config(cfg: DictConfig) -> Any:
    """Return bitsandbytes' configuration of ``peft.quantization``.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        raise UserError("peft=qlora needs bitsandbytes: pip install 'alignzoo[qlora]'.") from None
    return BitsAndBytesConfig(**to_plain(cfg))


def _is_linear(module: Any) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear)

"""Refuses a run that this machine's devices cannot train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.config.checked import Checked


def check_hardware(checked: Checked) -> None:
    """Refuse a device or a precision that is not here, and 4-bit weights where there is no CUDA device for them."""
    device, _, peft = checked.device, checked.precision, checked.cfg.peft
    if peft.get("quantization") and device != "cuda":
        raise UserError(f"peft={peft.name} needs a CUDA device; this run uses the {device}. Use peft=lora.")

"""What a run refuses before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.train.inputs import prepare_run


def test_weights_in_four_bits_need_cuda(compose_config: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match=r"peft=qlora needs a CUDA device; this run uses the cpu\. Use peft=lora"):
        prepare_run(check(compose_config("peft=qlora", "model=tiny", "strategy.device=cpu")))

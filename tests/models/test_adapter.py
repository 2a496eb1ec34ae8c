"""The adapter that trains: its configuration, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from alignzoo.config import check
from alignzoo.models.adapter import adapter_config
from alignzoo.system.errors import UserError

Compose = Callable[..., DictConfig]


def test_without_an_adapter_there_is_no_configuration(compose_config: Compose) -> None:
    assert adapter_config(compose_config("peft=none").peft) is None


def test_an_adapters_configuration(compose_config: Compose) -> None:
    found = adapter_config(compose_config("peft=lora", "peft.r=4", "+peft.use_rslora=true").peft)
    assert found is not None
    assert (found.task_type, found.r, found.lora_alpha, found.lora_dropout) == ("CAUSAL_LM", 4, 32, 0.0)
    assert found.target_modules == "all-linear"
    assert found.use_rslora


def test_an_adapters_modules_may_be_listed(compose_config: Compose) -> None:
    found = adapter_config(compose_config("peft=lora", "peft.target_modules=[q_proj,v_proj]").peft)
    assert found is not None
    assert found.target_modules == {"q_proj", "v_proj"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("+peft.rnk_pattern={}", "peft.rnk_pattern: LoraConfig has no such field. Did you mean rank_pattern"),
        ("peft.r=big", "peft.r=big is text; LoraConfig takes int."),
    ],
)
def test_what_no_adapter_takes_is_refused(compose_config: Compose, words: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        check.check(compose_config("peft=lora", words))
    assert message in str(raised.value)

"""What a run refuses before anything is loaded, and what reaches TRL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig
from repository import ROOT

from alignzoo import UserError
from alignzoo.config.check import check
from alignzoo.train.inputs import RunInputs, prepare_run

DATA = ROOT / "tests" / "data"


def test_weights_in_four_bits_need_cuda(compose_config: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match=r"peft=qlora needs a CUDA device; this run uses the cpu\. Use peft=lora"):
        prepare_run(check(compose_config("peft=qlora", "model=tiny", "strategy.device=cpu")))


def sampling(compose_config: Callable[..., DictConfig], *overrides: str) -> RunInputs:
    """Return the inputs of a run of GRPO on prompts, with Qwen3's template."""
    template = f"model.chat_template={DATA / 'templates' / 'qwen3.jinja'}"
    local = ("dataset=local", "dataset.heldout.fraction=0", "strategy.device=cpu", "model=tiny")
    return prepare_run(check(compose_config("method=grpo", "reward=length", *local, template, *overrides)))


def test_arguments_for_the_chat_template_reach_the_samplers_of_trl(
    compose_config: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """Those of the rows and those of the method: TRL samples from the ids that are measured from."""
    file = DATA / "inputs" / "chat_kwargs.jsonl"
    ours = "+method.chat_template_kwargs={enable_thinking: false}"
    for overrides in (
        [f"dataset.path={file}"],
        [f"dataset.path={DATA / 'cases' / 'prompts-conversational.jsonl'}", ours],
    ):
        inputs = sampling(compose_config, *overrides)
        args = inputs.make_trl_config(tmp_path)
        assert args.chat_template_kwargs == {"enable_thinking": False}
        trainer = inputs.build_trainer(args, inputs.load_model())
        ids, *_ = trainer._tokenize_prompts(inputs.rows["prompt"][:])
        assert ids == inputs.data.train["prompt_ids"][:]
        assert inputs.tokenizer.decode(ids[0]).endswith("<think>\n\n</think>\n\n")


def test_tools_of_prompts_are_refused_where_trl_gets_none(compose_config: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match="the prompt row-1 has tools: methods that sample do not hand them to the chat"):
        sampling(compose_config, f"dataset.path={DATA / 'inputs' / 'tool_dpo_null.jsonl'}")

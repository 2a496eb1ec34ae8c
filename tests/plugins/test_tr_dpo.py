"""The reference of TR-DPO follows the policy, with an adapter too, and a resumed run has the same one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from alignzoo.plugin.registry import registry
from alignzoo.testing.runs import Run, build, isolate_training

WORDS = ("train.lr_scheduler_type=constant", "++method.learning_rate=1e-2", "method.ref_model_sync_steps=2")
ADAPTERS = pytest.mark.parametrize("peft", ["none", "lora"])


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    def run(*words: str) -> Run:
        return build(registry().method("tr_dpo"), "pairs-of-text", tmp_path, [*WORDS, *words])

    return run


def read_reference(trainer: Any) -> dict[str, torch.Tensor]:
    found = trainer.copied or dict(trainer.ref_model.named_parameters())
    return {name: weight.detach().clone() for name, weight in found.items()}


def read_policy(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


@ADAPTERS
def test_the_reference_moves_by_alpha_every_tau_steps(make: Callable[..., Run], peft: str) -> None:
    with isolate_training():
        run = make(f"peft={peft}", "train.max_steps=3", "method.ref_model_mixup_alpha=0.25")
        trainer = run.trainer
        before, seen = read_reference(trainer), {}

        class Spy(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                seen[state.global_step] = read_policy(trainer), read_reference(trainer)

        trainer.add_callback(Spy())
        trainer.train()
    for name, start in before.items():
        assert torch.equal(seen[1][1][name], start)
        moved = 0.75 * start + 0.25 * seen[2][0][name]
        assert torch.allclose(seen[2][1][name], moved, atol=1e-6)
        assert torch.equal(seen[3][1][name], seen[2][1][name])
    assert any(not torch.equal(seen[2][1][name], start) for name, start in before.items())


@ADAPTERS
def test_after_a_copy_the_rewards_are_0_again(make: Callable[..., Run], peft: str) -> None:
    with isolate_training():
        run = make(f"peft={peft}", "train.max_steps=3", "method.ref_model_mixup_alpha=1.0")
        run.trainer.train()
    rewards = [abs(line["rewards/chosen"]) for line in run.trainer.state.log_history if "rewards/chosen" in line]
    assert rewards[0] == pytest.approx(0, abs=1e-5)
    assert rewards[1] > 1e-3
    assert rewards[2] == pytest.approx(0, abs=1e-5)


@ADAPTERS
def test_a_resumed_run_has_the_reference_of_an_uninterrupted_one(
    make: Callable[..., Run], peft: str, tmp_path: Path
) -> None:
    saving = ("train.save_strategy=steps", "train.save_steps=3", "train.save_total_limit=2")
    words = (f"peft={peft}", "train.max_steps=4", *saving)
    with isolate_training():
        whole = make(*words)
        whole.trainer.train()
        resumed = make(*words)
        resumed.trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / "checkpoint-3"))
    for read in (read_reference, read_policy):
        expected, found = read(whole.trainer), read(resumed.trainer)
        assert all(torch.equal(weight, found[name]) for name, weight in expected.items())

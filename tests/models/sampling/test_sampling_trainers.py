"""TRL's trainers sample by alignzoo's loop, and what they log and learn of the same tokens is the same."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationMixin

from alignzoo.models.sampling import patch
from alignzoo.models.sampling.draws import Draws, draw_tokens
from alignzoo.models.sampling.patch import reason_against, sampling_together
from alignzoo.plugin.registry import registry
from alignzoo.testing.runs import Run, build, isolate_training

WORDS = (
    "train.max_steps=2",
    "method.max_completion_length=8",
    "train.global_batch_size=8",
    "train.per_device_batch_size=8",
)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of each call that the loop has written."""
    calls: list[int] = []
    original = patch.decode

    @functools.wraps(original)
    def counted(model: Any, input_ids: Any, *args: Any, **inputs: Any) -> Any:
        found = original(model, input_ids, *args, **inputs)
        calls.append(len(input_ids))
        return found

    monkeypatch.setattr(patch, "decode", counted)
    return calls


def train(name: str, folder: Path, *words: str, layout: str = "prompts") -> Run:
    """Train two steps of eight completions as a run does; the rewards depend on nothing but the row."""
    folder.mkdir()
    with isolate_training():
        torch.manual_seed(0)
        made = build(registry().method(name), layout, folder, [*WORDS, *words])
        if made.inputs.method.uses_rewards:
            made.trainer.reward_funcs = [give_numbers]
        with sampling_together(made.inputs.cfg, made.trainer):
            made.trainer.train()
    return made


def give_numbers(completions: list[Any], **columns: Any) -> list[float]:
    return [float(row * row % 7) for row in range(len(completions))]


@pytest.mark.parametrize("name", ["grpo", "rloo", "online_dpo", "ppo", "remax", "opd", "gkd", "minillm"])
def test_what_each_trainer_samples_is_written_together(name: str, tmp_path: Path, decoded: list[int]) -> None:
    layout = "prompts" if registry().method(name).data.value == "prompts" else "pairs-of-messages"
    words = ("method.lmbda=1",) if name == "gkd" else ()
    made = train(name, tmp_path / "run", *words, layout=layout)
    assert decoded
    assert all(loss == loss for loss in made.losses)
    assert "generate" not in vars(made.trainer.accelerator.unwrap_model(made.trainer.model)), "it is given back"


@pytest.fixture
def same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers' loop draw its tokens by the numbers that alignzoo's draws by: the same ones in each call."""
    numbers = torch.rand(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn: list[int] = []
    generate = GenerationMixin.generate

    def begin(self: Any, *args: Any, **kwargs: Any) -> Any:
        drawn.clear()
        return generate(self, *args, **kwargs)

    def draw(probabilities: Tensor, num_samples: int) -> Tensor:
        drawn.append(num_samples)
        return draw_tokens(probabilities.log(), numbers[:, len(drawn) - 1])[:, None]

    monkeypatch.setattr(GenerationMixin, "generate", begin)
    monkeypatch.setattr(torch, "multinomial", draw)
    monkeypatch.setattr(Draws, "draw", lambda *asked: Draws(numbers, torch.ones(8, dtype=torch.bool)))


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_the_same_completions_give_the_same_losses(
    name: str, tmp_path: Path, decoded: list[int], same_numbers: None
) -> None:
    runs = {}
    for choice in ("off", "auto"):
        words = (f"speed.sampling={choice}", "train.max_steps=3", "method.learning_rate=1e-3")
        runs[choice] = train(name, tmp_path / choice, *words)
        assert bool(decoded) == (choice == "auto")
    off, auto = (run.trainer.state.log_history[:-1] for run in runs.values())
    assert len(off) == 3
    for before, after in zip(off, auto, strict=True):
        for key in before.keys() - {"step_time"}:
            assert after[key] == pytest.approx(before[key], rel=1e-3, abs=1e-5), key
    assert len({line["entropy"] for line in off}) == 3
    assert any(abs(line["kl"]) > 1e-3 for line in off)


def test_an_adapter_samples_together_too(tmp_path: Path, decoded: list[int]) -> None:
    train("grpo", tmp_path / "run", "peft=lora")
    assert decoded == [8, 8]


def test_what_the_loop_cannot_do_is_left_to_generate_and_told_once(
    tmp_path: Path, decoded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger=patch.__name__):
        made = train("grpo", tmp_path / "run", "+method.repetition_penalty=1.2")
    assert not decoded
    assert len(made.losses) == 2
    told = [record.getMessage() for record in caplog.records if record.name == patch.__name__]
    assert told == [
        "completions are not sampled together: RepetitionPenaltyLogitsProcessor may keep something of each row."
    ]


def test_off_leaves_everything_to_trl(tmp_path: Path, decoded: list[int]) -> None:
    train("grpo", tmp_path / "run", "speed.sampling=off")
    assert not decoded


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"use_vllm": True}, "vLLM samples them"),
        ({"use_transformers_continuous_batching": True}, "transformers batches them continuously"),
        ({"is_fsdp_enabled": True}, "processes hold a share of each weight"),
        ({}, None),
    ],
)
def test_other_ways_of_sampling_are_left_alone(facts: dict[str, Any], said: str | None) -> None:
    trainer = SimpleNamespace(**{"is_fsdp_enabled": False, **facts})
    assert reason_against(trainer, torch.nn.Linear(2, 2)) == said


def test_an_adapter_that_learns_a_prompt_is_left_alone() -> None:
    model = torch.nn.Linear(2, 2)
    model.active_peft_config = SimpleNamespace(is_prompt_learning=True)  # type: ignore[assignment]
    assert reason_against(SimpleNamespace(is_fsdp_enabled=False), model) == "the adapter learns a prompt"


def test_a_trainer_that_samples_nothing_is_left_alone(tmp_path: Path) -> None:
    cfg = SimpleNamespace(speed=SimpleNamespace(sampling="auto"))
    trainer: Any = SimpleNamespace()
    with sampling_together(cfg, trainer):  # type: ignore[arg-type]
        assert not vars(trainer)

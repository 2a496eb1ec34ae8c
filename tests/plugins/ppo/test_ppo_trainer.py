"""The trainer on a tiny model: what it samples, what it learns from, what it saves, and where it stops."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from alignzoo_plugins.online.ppo.objective import estimate_advantages
from alignzoo_plugins.online.ppo.trainer import PPOTrainer
from alignzoo_plugins.online.ppo.value import FILE
from peft import LoraConfig
from ppo_rewards import PROMPTS, build_trainers, low_ids
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from alignzoo import UserError

pytestmark = pytest.mark.slow

Make = Callable[..., PPOTrainer]


@pytest.fixture
def make_trainer(start: Path, tmp_path: Path) -> Make:
    return build_trainers(start, tmp_path)


def rollouts(trainer: PPOTrainer) -> dict[str, torch.Tensor]:
    trainer.model.train()
    return trainer._generate_and_score_completions([{"prompt": prompt} for prompt in PROMPTS])


def history(trainer: PPOTrainer) -> list[dict[str, Any]]:
    return [line for line in trainer.state.log_history if "loss" in line]


def plain(model: Any, batch: dict[str, torch.Tensor], row: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one answer's log-probabilities and last hidden states from a forward pass of its own, unpadded."""
    prompt, answer = (batch[f"{name}_ids"][row][batch[f"{name}_mask"][row].bool()] for name in ("prompt", "completion"))
    with torch.no_grad():
        found = model(input_ids=torch.cat([prompt, answer])[None], output_hidden_states=True)
    before = slice(len(prompt) - 1, -1)
    log_probabilities = found.logits[0, before].log_softmax(-1)
    return log_probabilities.gather(-1, answer[:, None])[:, 0], found.hidden_states[-1][0, before]


def test_rollouts_are_what_plain_forward_passes_say(make_trainer: Make, start: Path) -> None:
    """Log-probabilities, values and KL of each token belong to the state from which it was chosen, padded or not."""
    trainer = make_trainer(missing_eos_penalty=0.0, normalize_advantages=False, beta=0.5)
    torch.nn.init.normal_(trainer.value_head.linear.weight)
    with torch.no_grad():  # away from the start model
        for weight in trainer.model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    batch = rollouts(trainer)
    reference = AutoModelForCausalLM.from_pretrained(start)
    for row in range(len(PROMPTS)):
        length = int(batch["completion_mask"][row].sum())
        old, states = plain(trainer.model, batch, row)
        torch.testing.assert_close(batch["old"][row, :length], old, rtol=1e-4, atol=1e-4)
        values = trainer.value_head(states)
        torch.testing.assert_close(batch["old_values"][row, :length], values, rtol=1e-4, atol=1e-4)
        rewards = -0.5 * (old - plain(reference, batch, row)[0])
        rewards[-1] += low_ids([], [], [batch["completion_ids"][row, :length].tolist()])[0]
        expected = estimate_advantages(rewards[None], values[None], torch.ones(1, length), 1.0, 0.95)[0]
        torch.testing.assert_close(batch["advantages"][row, :length], expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(batch["returns"][row, :length], expected + values, rtol=1e-3, atol=1e-3)


def test_an_answer_without_an_end_pays(make_trainer: Make) -> None:
    trainer = make_trainer(missing_eos_penalty=0.75)
    end = trainer._tokenizer.eos_token_id
    scores = trainer._scores([{"prompt": "a"}] * 2, ["a"] * 2, ["b"] * 2, [[1, 600, end], [1, 600]])
    assert scores.tolist() == pytest.approx([2 / 3, 0.5 - 0.75])


def test_rewards_are_weighed_and_clipped(make_trainer: Make) -> None:
    trainer = make_trainer(reward_weights=[3.0], reward_clip_range=(0.0, 2.0), missing_eos_penalty=0.0)
    scores = trainer._scores([{"prompt": "a"}] * 2, ["a"] * 2, ["b"] * 2, [[1, 2], [1, 600]])
    assert scores.tolist() == pytest.approx([2.0, 1.5])


def test_nothing_is_clipped_before_the_first_update_and_the_start_model_is_the_reference(make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.train()
    first, *later = history(trainer)
    assert first["clip_fraction"] == 0
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert first["policy_change"] == pytest.approx(0, abs=1e-6)
    assert any(line["policy_change"] > 1e-5 for line in later)
    for name in ("reward", "value_loss", "explained_variance", "rewards/low_ids/mean", "entropy", "objective"):
        assert math.isfinite(first[name])


def test_each_batch_of_rollouts_is_trained_on_in_every_epoch_and_cut_anew(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of 8 answers, 3 epochs of 2 mini-batches each: 12 updates."""
    trainer = make_trainer(num_iterations=3, max_steps=12)
    seen, sampled = [], []
    compute, generate = trainer._compute_loss, trainer._generate

    def note(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(frozenset(inputs["old"][:, 0].tolist()))
        return compute(model, inputs)

    monkeypatch.setattr(trainer, "_compute_loss", note)
    monkeypatch.setattr(trainer, "_generate", lambda prompts: sampled.append(len(prompts)) or generate(prompts))
    trainer.train()
    assert sampled == [8, 8]
    epochs = [seen[first] | seen[first + 1] for first in range(0, 12, 2)]
    assert len(epochs[0]) == len(epochs[3]) == 8
    assert epochs[0] == epochs[1] == epochs[2] != epochs[3]
    assert len(set(seen[:6])) > 2, "mini-batches are cut anew"


def test_smaller_pieces_make_the_same_updates(make_trainer: Make) -> None:
    """A mini-batch of 4 answers at once, or in two pieces: every token weighs the same."""
    whole, pieces = make_trainer(max_steps=3), None
    whole.train()
    pieces = make_trainer(max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    pieces.train()
    for one, other in zip(whole.model.parameters(), pieces.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(whole.value_head.linear.weight, pieces.value_head.linear.weight, rtol=1e-3, atol=1e-4)


def test_the_saved_model_is_a_plain_policy_with_the_value_head_aside(make_trainer: Make, tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    _, loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not loaded["unexpected_keys"]
    assert not loaded["missing_keys"]
    head = load_file(tmp_path / "model" / FILE)
    assert head.keys() == {"linear.weight", "linear.bias"}
    assert head["linear.weight"].abs().max() > 0, "it learned"
    fresh = make_trainer()
    fresh._load_from_checkpoint(str(tmp_path / "model"))
    assert torch.equal(fresh.value_head.linear.weight, trainer.value_head.linear.weight)


def test_a_checkpoint_holds_the_value_head(make_trainer: Make, tmp_path: Path) -> None:
    make_trainer(max_steps=2, save_strategy="steps", save_steps=2).train()
    names = {file.name for file in (tmp_path / "run" / "checkpoint-2").iterdir()}
    assert {FILE, "model.safetensors", "optimizer.pt"} <= names


def test_the_value_head_learns_at_its_own_rate(make_trainer: Make) -> None:
    trainer = make_trainer(learning_rate=0.0, value_learning_rate=1e-2, max_steps=4)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert all(torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters())
    assert trainer.value_head.linear.bias.abs() > 1e-3


def test_an_update_takes_no_gradient_of_the_value_head_from_the_last_one(make_trainer: Make) -> None:
    """At rates of 0 and one mini-batch, each PPO epoch has the same gradient."""
    still = {"learning_rate": 0.0, "value_learning_rate": 1e-12, "generation_batch_size": 4, "num_iterations": 3}
    trainer = make_trainer(max_steps=3, **still)
    seen, step = [], trainer.training_step

    def note(*args: Any) -> torch.Tensor:
        loss = step(*args)
        seen.append(trainer.value_head.linear.weight.grad.clone())
        return loss

    trainer.training_step = note
    trainer.train()
    for gradient in seen[1:]:
        torch.testing.assert_close(gradient, seen[0], rtol=1e-3, atol=1e-6)


def test_an_adapter_trains_against_the_model_without_it(make_trainer: Make, tmp_path: Path) -> None:
    adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(peft_config=adapter, learning_rate=1e-2, max_steps=9)
    assert trainer.ref_model is None
    trainer.train()
    first, last = history(trainer)[0], history(trainer)[-1]
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert abs(last["kl"]) > 1e-4
    trainer.save_model(str(tmp_path / "model"))
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert {"adapter_model.safetensors", FILE} <= names
    assert "model.safetensors" not in names


@pytest.mark.parametrize("where", ["policy", "value head"])
def test_what_is_not_finite_stops_the_run_by_name(make_trainer: Make, where: str) -> None:
    trainer = make_trainer()
    weight = trainer.value_head.linear.bias if where == "value head" else trainer.ref_model.lm_head.weight
    with torch.no_grad():
        weight.fill_(math.nan)
    name = "values" if where == "value head" else "reference"
    with pytest.raises(UserError, match=f"ppo: {name} became NaN or infinite at step 0"):
        rollouts(trainer)


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_a_reward_that_is_not_finite_stops_the_run(make_trainer: Make, bad: float | None) -> None:
    def broken(completions: list[Any], **columns: Any) -> list[float | None]:
        return [bad] * len(completions)

    with pytest.raises(UserError, match="ppo: rewards became NaN or infinite"):
        rollouts(make_trainer(broken))


def test_a_loss_that_is_not_finite_stops_the_run(make_trainer: Make) -> None:
    trainer = make_trainer()
    batch = rollouts(trainer)
    with pytest.raises(UserError, match="ppo: loss became NaN or infinite"):
        trainer._compute_loss(
            trainer.model, {**batch, "old": batch["old"] - 1e3, "advantages": -batch["advantages"].abs()}
        )


def test_constant_scores_are_said_once(make_trainer: Make, caplog: pytest.LogCaptureFixture) -> None:
    def same(completions: list[Any], **columns: Any) -> list[float]:
        return [1.0] * len(completions)

    trainer = make_trainer(same, missing_eos_penalty=0.0, num_iterations=1, max_steps=14)
    with caplog.at_level(logging.WARNING, logger="alignzoo_plugins.online.ppo"):
        trainer.train()
    said = [record.getMessage() for record in caplog.records if record.name == "alignzoo_plugins.online.ppo.guards"]
    assert len(said) == 1
    assert said[0].startswith("the last 5 x 8 answers all had the score 1: ppo learns nothing")


def test_without_a_penalty_there_is_no_reference_model(make_trainer: Make) -> None:
    trainer = make_trainer(beta=0.0, max_steps=2)
    assert trainer.ref_model is None
    trainer.train()
    assert history(trainer)[-1]["kl"] == 0

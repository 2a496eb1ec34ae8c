"""Packed rows give the log-probabilities and gradients of padded ones, and what cannot be packed runs as before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from speed_models import FAMILIES, rows, settings, tiny
from torch import Tensor
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM, OPTConfig, OPTForCausalLM
from trl.trainer.utils import add_fused_lm_head

from alignzoo import UserError
from alignzoo.models.shared_prefix import attention, head, patch
from alignzoo.models.shared_prefix.patch import share_prefixes, stop_sharing


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the tokens of each packed row that a backbone computes."""
    sizes: list[int] = []

    class Counted(attention.Trees):
        def __init__(self, nodes: Any, device: Any) -> None:
            super().__init__(nodes, device)
            sizes.append(nodes[-1].stop)

    monkeypatch.setattr(patch.attention, "Trees", Counted)
    return sizes


@pytest.fixture(autouse=True)
def whole_head() -> Iterator[None]:
    """Let TRL score as it does, whichever way a test ends."""
    yield
    head.score_all()


def prepared(family: str, lora: bool = False, checkpointing: bool = False) -> Any:
    """A model as TRL's trainers have it, in training mode."""
    model = tiny(family)
    add_fused_lm_head(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if lora:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight.data, std=0.05)
    return model.train()


def log_probs(model: Any, **inputs: Tensor) -> Tensor:
    found: Tensor = model(**inputs, use_cache=False, fused_lm_head=True).log_probs
    return found


def gradient(model: Any) -> Tensor:
    return torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_and_gradients_are_the_dense_ones(
    family: str, lora: bool, checkpointing: bool, packed: list[int]
) -> None:
    model, inputs = prepared(family, lora, checkpointing), rows()
    dense = log_probs(model, **inputs)
    weights = torch.linspace(-1, 1, dense.numel()).view(dense.shape)
    (dense * weights).sum().backward()
    expected = gradient(model)
    model.zero_grad()

    share_prefixes(settings(), model)
    packed.clear()
    found = log_probs(model, **inputs)
    (found * weights).sum().backward()
    stop_sharing(model)

    assert packed == [60 + 11 + 50 + 13 + 49]
    assert (found - dense).abs().max() < 1e-4
    assert ((found.sum(-1) - dense.sum(-1)) / dense.sum(-1)).abs().max() < 1e-5
    assert (gradient(model) - expected).norm() / expected.norm() < 1e-5


def test_bins_change_nothing(packed: list[int]) -> None:
    model, inputs = prepared("llama"), rows()
    dense = log_probs(model, **inputs)
    share_prefixes(settings(budget=80), model)
    packed.clear()
    found = log_probs(model, **inputs)
    assert packed == [71, 63, 49]
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-4)


def test_bf16_differs_by_its_rounding_alone() -> None:
    model, inputs = prepared("qwen3"), rows()
    exact = log_probs(model, **inputs)
    with torch.autocast("cpu", torch.bfloat16):
        dense = log_probs(model, **inputs)
        share_prefixes(settings(), model)
        found = log_probs(model, **inputs)
    assert (found - exact).abs().mean() < 1.5 * (dense - exact).abs().mean()


def test_only_positions_with_a_label_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer import utils

    scored: list[int] = []

    class Kernel:
        @staticmethod
        def apply(hidden: Tensor, *more: Any) -> Any:
            scored.append(len(hidden))
            return original.apply(hidden, *more)

    original = utils._ChunkedLogProbFunction
    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Kernel)
    model, inputs = prepared("llama"), rows()
    log_probs(model, **inputs)
    share_prefixes(settings(), model)
    log_probs(model, **inputs)
    stop_sharing(model)
    log_probs(model, **inputs)
    everything, labels = 5 * 59, int((inputs["labels"] != -100).sum())
    assert scored == [everything, labels, everything]


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_auto_leaves_a_batch_that_gains_nothing(choice: str, packed: list[int]) -> None:
    model, ids = prepared("llama"), rows()["input_ids"][[0, 2]]
    share_prefixes(settings(choice), model)
    packed.clear()
    log_probs(model, input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)
    assert bool(packed) == (choice == "on")


def test_off_leaves_the_model_alone() -> None:
    model = prepared("llama")
    share_prefixes(settings("off"), model)
    assert "forward" not in model.model.__dict__


def test_generation_goes_as_before(packed: list[int]) -> None:
    model, ids = prepared("llama").eval(), rows()["input_ids"][:2, :20]
    plain = model.generate(ids, max_new_tokens=4, do_sample=False)
    share_prefixes(settings(), model)
    packed.clear()
    assert torch.equal(model.generate(ids, max_new_tokens=4, do_sample=False), plain)
    assert not packed


def test_rows_longer_than_a_sliding_window_are_not_packed(packed: list[int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model, inputs = prepared("mistral"), rows(longest=70)
    dense = log_probs(model, **inputs)
    share_prefixes(settings(), model)
    packed.clear()
    for _ in range(2):
        assert torch.equal(log_probs(model, **inputs), dense)
    assert not packed
    assert [r.message for r in caplog.records if "last 64" in r.message] == [
        "rows of 70 tokens are computed one by one: the model attends to the last 64 only."
    ]


def unpackable(name: str) -> Any:
    sizes = {"vocab_size": 64, "hidden_size": 32}
    if name == "bloom":
        return BloomForCausalLM(BloomConfig(**sizes, n_layer=1, n_head=2))
    if name == "mamba":
        return MambaForCausalLM(MambaConfig(**sizes, num_hidden_layers=1))
    if name == "opt":
        small = {"num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 32}
        return OPTForCausalLM(OPTConfig(**sizes, **small, dropout=0.0))
    if name == "dropout":
        return tiny("llama", attention_dropout=0.1)
    if name == "window":
        return tiny("mistral", sliding_window=20)
    return tiny("llama", attn_implementation="eager")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bloom", "model.attn_implementation=eager"),  # ALiBi
        ("mamba", "layers of linear_attention"),
        ("opt", "hidden states differ by"),  # reads positions off the attention mask
        ("dropout", "drops out parts of its attention"),
        ("window", "attends to no more than 20 tokens"),
        ("eager", "model.attn_implementation=eager"),
    ],
)
def test_what_cannot_be_packed_runs_trls_way_and_says_so(
    name: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = unpackable(name)
    with pytest.raises(UserError, match=reason):
        share_prefixes(settings("on"), model)
    share_prefixes(settings("auto"), model)
    assert reason in caplog.text
    assert "forward" not in model.base_model.__dict__

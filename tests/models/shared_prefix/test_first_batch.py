"""A GPU's first batch decides on packed rows there: a CPU stands in for the GPU, and for its flash attention."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from flash_stand_in import FlashOperators, flash_on_cpu
from speed_models import FAMILIES, rows, settings, tiny
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from alignzoo import UserError
from alignzoo.models.shared_prefix import attention, choice, first_batch, head, supported
from alignzoo.models.shared_prefix.choice import Chooser
from alignzoo.models.shared_prefix.patch import choose_by_time, share_prefixes, stop_sharing
from alignzoo.models.shared_prefix.supported import backbone_of
from alignzoo.system import cache

ONCE = "prompts shared by a batch's rows are computed once on cpu."
EACH = "prompts shared by a batch's rows are computed for each row: "


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[FlashOperators]:
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(attention.KERNELS, "cpu", attention.KERNELS["cuda"])
    monkeypatch.setattr(first_batch, "TRIED_BEFORE", set())
    supported.examine.cache_clear()
    with flash_on_cpu() as operators:
        yield operators
    supported.examine.cache_clear()
    head.score_all()


def fused(family: str = "llama", **more: Any) -> Any:
    model = tiny(family, **more)
    add_fused_lm_head(model)
    return model.train()


def log_probs(model: Any) -> Tensor:
    """As a run in bf16 computes them."""
    with torch.autocast("cpu", torch.bfloat16):
        found: Tensor = model(**rows(), use_cache=False, fused_lm_head=True).log_probs
    return found


def gradient(model: Any, found: Tensor) -> Tensor:
    model.zero_grad()
    (found * torch.linspace(-1, 1, found.numel()).view(found.shape)).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_and_gradients_are_the_dense_ones_but_for_rounding(family: str, gpu: FlashOperators) -> None:
    model = fused(family)
    exact = model(**rows(), use_cache=False, fused_lm_head=True).log_probs
    exact_gradient = gradient(model, exact)
    dense = log_probs(model)
    dense_gradient = gradient(model, dense)
    share_prefixes(settings("auto"), model)
    log_probs(model)  # the trial comes first
    gpu.forward_calls.clear()
    found = log_probs(model)
    assert (
        gpu.forward_calls == [(True, 7), (False, 2)] * 2
    )  # in each layer: two prompts, four answers, a row of its own
    assert (found - exact).abs().mean() < 1.5 * (dense - exact).abs().mean()
    difference = (gradient(model, found) - exact_gradient).norm()
    assert difference < 1.5 * (dense_gradient - exact_gradient).norm()


def test_a_trial_is_made_once_and_leaves_the_model_as_it_was(
    gpu: FlashOperators, caplog: pytest.LogCaptureFixture
) -> None:
    model, random_state = fused(), torch.get_rng_state()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    share_prefixes(settings("auto"), model)
    assert not gpu.forward_calls  # the weights may not be there yet
    assert not first_batch.is_packing(model.model)
    for _ in range(2):
        log_probs(model)
        assert first_batch.is_packing(model.model)
    assert caplog.messages == [ONCE]
    assert gpu.backward_calls == [(True, 6), (False, 1), (False, 1)] * 2
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in model.modules())
    assert not model.model.embed_tokens._forward_hooks


def forget_prefixes_on_the_way_back(gpu: FlashOperators) -> Callable[..., Any]:
    """The trap of merging in autograd: each part's gradient by its own sums, as if there were no other part."""
    backward = gpu.backward

    def wrong(slope: Tensor, *inputs: Any, **options: Any) -> Any:
        bounds = inputs[5:9]
        output, sums, *_ = gpu.forward(*inputs[:3], *bounds, 0.0, inputs[10], False, **options)
        return backward(slope, *inputs[:3], output, sums, *inputs[5:], **options)

    return wrong


def fail(*inputs: Any, **options: Any) -> Any:
    raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")


@pytest.mark.parametrize(
    ("way", "fault", "reason"),
    [
        ("forward", lambda gpu: fail, r"the model does not run on packed rows \(RuntimeError\)"),
        ("backward", lambda gpu: fail, r"the model does not run on packed rows \(RuntimeError\)"),
        ("backward", forget_prefixes_on_the_way_back, "the model's gradients differ by"),
    ],
)
def test_what_fails_on_the_card_runs_trls_way_and_says_so(
    way: str,
    fault: Any,
    reason: str,
    gpu: FlashOperators,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = fused()
    dense = log_probs(model)
    monkeypatch.setattr(gpu, way, fault(gpu))
    share_prefixes(settings("auto"), model)
    for _ in range(2):
        assert torch.equal(log_probs(model), dense)
    assert not first_batch.is_packing(model.model)
    assert [message.startswith(EACH) for message in caplog.messages] == [True]
    stop_sharing(model)
    share_prefixes(settings("on"), model)
    with pytest.raises(UserError, match=f"speed.shared_prefix=on: {reason}"):
        log_probs(model)


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_float32_is_computed_trls_way(choice: str, gpu: FlashOperators, caplog: pytest.LogCaptureFixture) -> None:
    """Also within a run in bf16: its models are measured in the precision of their weights."""
    model = fused()
    share_prefixes(settings(choice), model)
    model(**rows(), use_cache=False, fused_lm_head=True)
    assert caplog.messages == [EACH + "flash attention computes in bfloat16 or float16 on cpu, not in float32."]
    log_probs(model)
    assert caplog.messages[1:] == [ONCE]
    model.to(torch.bfloat16)(**rows(), use_cache=False, fused_lm_head=True)


def test_shared_weights_are_not_tried(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_batch, "is_sharded", lambda backbone: True)
    model = fused()
    share_prefixes(settings("auto"), model)
    log_probs(model)
    assert caplog.messages == [EACH + "equality cannot be tried while processes hold a share of each weight."]


def test_a_device_without_kernels_runs_trls_way(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fused()
    dense = log_probs(model)
    share_prefixes(settings("auto"), model)
    monkeypatch.delitem(attention.KERNELS, "cpu")
    assert torch.equal(log_probs(model), dense)
    assert caplog.messages == [EACH + "there are no attention kernels for it on cpu."]


def test_auto_does_not_try_a_card_on_which_it_was_never_run(caplog: pytest.LogCaptureFixture) -> None:
    backbone = backbone_of(fused()).bfloat16()
    assert not first_batch.takes_trees(backbone, first_batch.PackingSettings(64, required=False), torch.device("cuda"))
    assert "it was never run on cuda; speed.shared_prefix=on tries it" in caplog.text


def test_a_training_tries_it_on_such_a_card_and_the_clock_decides(
    gpu: FlashOperators, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """What is only measured before the first batch that trains runs TRL's way."""
    monkeypatch.setenv("ALIGNZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(first_batch, "NEVER_RUN", {"cpu"})
    for ratio, shares in ((0.5, False), (2.0, True)):
        ratios = [ratio]
        monkeypatch.setattr(choice, "_time_ways", lambda *unused, ratios=ratios: ratios.pop())
        cache.clear(["speed"])
        model, chooser = fused(), Chooser()
        share_prefixes(settings("auto"), model)
        choose_by_time(model, chooser)
        with torch.no_grad():
            log_probs(model)
        assert not first_batch.is_packing(model.model)
        caplog.clear()
        log_probs(model)
        assert first_batch.is_packing(model.model) == shares
        assert caplog.messages == [f"{chooser.choice}."]
        gpu.forward_calls.clear()
        log_probs(model)
        assert bool(gpu.forward_calls) == shares

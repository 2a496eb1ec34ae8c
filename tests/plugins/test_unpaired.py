"""Methods on single completions and on good ones compute their papers' losses: agreement, alterations, closed forms."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from alignzoo import Batch, Marked
from alignzoo.config.compose import compose
from alignzoo.plugin.batch import Answers
from alignzoo.plugin.registry import registry
from alignzoo.train.losses.compare import compare
from alignzoo.train.losses.independence import find_shared
from alignzoo.train.running_means import RunningMeans

LABELS = torch.tensor([True, False, True, False])
UNPAIRED = ("kto", "apo_zero_unpaired", "bco_unpaired")


@functools.cache
def compose_method(name: str) -> DictConfig:
    return compose([f"method={name}"])


def make_column(ratios: Tensor) -> Answers:
    """Return four completions of several lengths whose log-ratios are ``ratios``, in nats, (rows,)."""
    counts = torch.tensor([3, 7, 12, 4])
    mask = (torch.arange(12)[None] < counts[:, None]).float()
    reference = -torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    policy = (reference + (ratios / counts)[:, None] * mask).requires_grad_()
    return Answers(policy, reference, policy.detach(), mask)


def make_batch(ratios: Tensor, kl: float = 0.0, labels: Tensor = LABELS) -> Batch:
    columns = {"completion": make_column(ratios), "KL_completion": make_column(torch.full((4,), kl))}
    return Batch(columns, labels, torch.empty(0), torch.empty(0))


def compute(name: str, batch: Batch, **settings: Any) -> Tensor:
    """Return the equation's loss of the batch."""
    cfg = compose_method(name).copy()
    cfg.method.update(settings)
    loss = registry().method(name).equation(cfg, batch)
    assert loss is not None
    return loss


def measure(name: str, batch: Batch, **settings: Any) -> float:
    """Return it as a number."""
    return compute(name, batch, **settings).item()


def mark(batch: Batch) -> Marked:
    """Return what the core would hand to the loss, in a training's first batch."""
    column = batch["completion"]
    tokens, mask = (torch.nn.functional.pad(part, (5, 2)) for part in (column.policy, column.mask))
    kl = batch["KL_completion"].log_ratio.sum(-1).detach()
    return Marked(tokens, mask, column.reference.sum(-1), batch.labels, kl, lambda name, values: values.detach().mean())


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kl", [0.0, 3.0, -3.0])
def test_kto_at_log_ratios_that_equal_the_kl_is_a_half(kl: float) -> None:
    """1 - sigmoid(0) for good and bad; a negative estimate counts as 0."""
    batch = make_batch(torch.full((4,), max(kl, 0.0)), kl)
    assert measure("kto", batch) == pytest.approx(0.5)


def test_kto_without_a_kl_is_apo_zero() -> None:
    batch = make_batch(torch.tensor([2.0, -1.0, 0.5, 3.0]))
    assert measure("kto", batch, beta=0.3) == pytest.approx(measure("apo_zero_unpaired", batch, beta=0.3))


def test_apo_zero_of_pairs_is_twice_that_of_their_completions() -> None:
    """The paper's equation 7 adds up the two terms of a pair; over completions they are averaged."""
    ratios = torch.tensor([2.0, -1.0, 0.5, 3.0])
    chosen, rejected = ratios[LABELS], ratios[~LABELS]
    pairs = (1 - torch.sigmoid(0.1 * chosen) + torch.sigmoid(0.1 * rejected)).mean()
    assert 2 * measure("apo_zero_unpaired", make_batch(ratios)) == pytest.approx(float(pairs))


@pytest.mark.parametrize(("name", "first"), [("apo_zero_unpaired", 0.5), ("bco_unpaired", math.log(2)), ("kto", 0.5)])
def test_the_first_loss_is_that_of_equal_models(name: str, first: float) -> None:
    assert measure(name, make_batch(torch.zeros(4))) == pytest.approx(first)
    assert registry().method(name).first_loss(compose_method(name)) == pytest.approx(first)


@pytest.mark.parametrize(("name", "least"), [("apo_zero_unpaired", 0.0), ("bco_unpaired", 0.0), ("kto", 0.0)])
def test_completions_that_are_right_beyond_doubt_cost_nothing(name: str, least: float) -> None:
    batch = make_batch(torch.where(LABELS, 1e5, -1e5))
    loss = compute(name, batch)
    (slope,) = torch.autograd.grad(loss, [batch["completion"].policy])
    assert loss.item() == pytest.approx(least, abs=1e-6)
    assert float(slope.norm()) == pytest.approx(0, abs=1e-6)


def test_bco_does_not_see_a_number_added_to_all_rewards() -> None:
    ratios = torch.tensor([2.0, -1.0, 0.5, 3.0])
    before, after = (measure("bco_unpaired", make_batch(ratios + more), beta=0.5) for more in (0.0, 7.0))
    assert before == pytest.approx(after, rel=1e-5)


def test_dft_weighs_each_token_by_its_probability() -> None:
    """At one probability p everywhere the loss is -p log p, and its gradient that of SFT's times p."""
    mask = torch.ones(2, 3)
    policy = torch.full((2, 3), math.log(0.3)).requires_grad_()
    batch = Batch({"completion": Answers(policy, policy.detach(), policy.detach(), mask)}, *[torch.empty(0)] * 3)
    dft, sft = compute("dft", batch), compute("sft", batch)
    assert dft.item() == pytest.approx(-0.3 * math.log(0.3))
    slopes = [torch.autograd.grad(loss, [policy])[0] for loss in (dft, sft)]
    assert torch.allclose(slopes[0], 0.3 * slopes[1])


def make_scores(chosen: list[float], rejected: list[float], margins: list[float]) -> Batch:
    scores = {"chosen": torch.tensor(chosen), "rejected": torch.tensor(rejected)}
    return Batch({}, *[torch.empty(0)] * 3, margins=torch.tensor(margins), scored=scores)


@pytest.mark.parametrize(
    ("chosen", "rejected", "settings", "expected"),
    [
        ([0.0, 1.5], [0.0, 1.5], {"center_rewards_coefficient": None, "margin": False}, math.log(2)),
        ([1.0, 2.0], [0.5, 0.0], {"center_rewards_coefficient": None}, math.log(2)),  # ahead by their margins
        ([3.0, 3.0], [3.0, 3.0], {"center_rewards_coefficient": 0.01, "margin": False}, math.log(2) + 0.36),
        ([3.0, -3.0], [-3.0, 3.0], {"center_rewards_coefficient": 0.5, "margin": False}, 3 + math.log1p(math.exp(-6))),
    ],
)
def test_reward_modeling(chosen: list[float], rejected: list[float], settings: dict[str, Any], expected: float) -> None:
    """Bradley and Terry at equal scores: log 2. Centring: coefficient x (sum of scores)^2, 0 where they cancel."""
    assert measure("reward", make_scores(chosen, rejected, [0.5, 2.0]), **settings) == pytest.approx(expected)


# --- alterations that are found --------------------------------------------------------------------------------------


def steepen(monkeypatch: pytest.MonkeyPatch, trainer: str) -> None:
    """Let the trainer's gradient be off by a hundredth, and its loss not."""
    cls = getattr(importlib.import_module("trl"), trainer)
    original = cls.compute_loss

    def altered(*args: Any, **kwargs: Any) -> Any:
        loss = original(*args, **kwargs)
        return loss + 0.01 * (loss - loss.detach())

    monkeypatch.setattr(cls, "compute_loss", altered)


@pytest.mark.parametrize(
    ("name", "trainer"), [("apo_zero_unpaired", "KTOTrainer"), ("dft", "SFTTrainer"), ("reward", "RewardTrainer")]
)
def test_another_loss_of_trl_is_found(name: str, trainer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steepen(monkeypatch, trainer)
    found = compare(registry().method(name))
    assert found is not None
    assert not found.agrees


def test_a_margin_that_the_trainer_leaves_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = importlib.import_module("trl").RewardTrainer
    original = cls.compute_loss

    def altered(self: Any, model: Any, inputs: Any, **kwargs: Any) -> Any:
        return original(self, model, {key: value for key, value in inputs.items() if key != "margin"}, **kwargs)

    monkeypatch.setattr(cls, "compute_loss", altered)
    found = compare(registry().method("reward"))
    assert found is not None
    assert not found.agrees


def swap(rows: Marked) -> Marked:
    return dataclasses.replace(rows, labels=~rows.labels)


def scale(rows: Marked) -> Marked:
    return dataclasses.replace(rows, token_log_probs=1.01 * rows.token_log_probs)


def forget_the_shift(rows: Marked) -> Marked:
    return dataclasses.replace(rows, running_mean=lambda name, values: torch.zeros(()))


@pytest.mark.parametrize("alter", [None, swap, scale, forget_the_shift])
def test_an_altered_loss_is_told_from_the_equation(alter: Callable[[Marked], Marked] | None) -> None:
    batch = make_batch(torch.tensor([2.0, -1.0, 0.5, 3.0]))
    method: Any = registry().method("bco_unpaired")
    cfg, rows = compose_method("bco_unpaired"), mark(batch)
    loss = method.loss(cfg, alter(rows) if alter else rows).mean()
    slopes = [
        torch.autograd.grad(part, [batch["completion"].policy])[0] for part in (loss, method.equation(cfg, batch))
    ]
    apart = float((slopes[0] - slopes[1]).norm() / slopes[1].norm())
    assert apart < 1e-5 if alter is None else apart > 1e-3


def test_loss_and_equation_share_nothing() -> None:
    assert find_shared(registry().method("bco_unpaired")) is None


# --- the running mean ------------------------------------------------------------------------------------------------


def test_a_running_mean_counts_all_values_and_keeps_held_out_ones_apart() -> None:
    means = RunningMeans()
    assert means.average("reward", total=6.0, count=2, keep=True) == 3.0
    assert means.average("reward", total=9.0, count=1, keep=True) == 5.0
    assert means.average("reward", total=100.0, count=1, keep=False) == 5.0
    assert means.average("other", total=1.0, count=2, keep=False) == 0.5
    assert means.average("reward", total=0.0, count=2, keep=True) == 3.0


def test_a_running_mean_is_kept_over_a_resume() -> None:
    before, after = RunningMeans(), RunningMeans()
    before.average("reward", total=6.0, count=2, keep=True)

    class State:
        stateful_callbacks = {"RunningMeans": before.state()}

    after.on_train_begin(None, State, None)
    assert after.average("reward", total=9.0, count=1, keep=True) == 5.0

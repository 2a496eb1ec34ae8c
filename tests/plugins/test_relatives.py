"""Methods that say that their loss is another's at some settings: it is, up to a constant."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from alignzoo import Batch, Method
from alignzoo.config.compose import compose
from alignzoo.plugin.batch import Answers
from alignzoo.plugin.loading import OWN
from alignzoo.plugin.registry import registry

RELATIVES = [
    (method.name, other, settings)
    for method, plugin in registry().methods.values()
    if plugin.distribution == OWN
    for other, settings in method.relatives.items()
]


@functools.cache
def compose_method(name: str) -> DictConfig:
    return compose([f"method={name}"])


def make_side(dice: torch.Generator, counts: Tensor) -> Answers:
    mask = (torch.arange(int(counts.max()))[None] < counts[:, None]).float()
    policy, reference = (-torch.rand(mask.shape, generator=dice) * mask for _ in range(2))
    return Answers(policy.requires_grad_(), reference, policy.detach(), mask)


def make_pairs() -> Batch:
    """Return four pairs of completions of several lengths, with random log-probabilities."""
    dice = torch.Generator().manual_seed(0)
    sides = {"chosen": torch.tensor([3, 7, 12, 4]), "rejected": torch.tensor([9, 2, 6, 5])}
    columns = {name: make_side(dice, counts) for name, counts in sides.items()}
    return Batch(columns, *(torch.empty(0) for _ in range(3)), margins=torch.tensor([0.5, 1.0, 2.0, 3.0]))


def find_gradients(method: type[Method], batch: Batch, settings: Mapping[str, Any]) -> Iterator[Tensor]:
    cfg = compose_method(method.name).copy()
    cfg.method.update({"beta": 0.3, **settings})
    loss = method.equation(cfg, batch)
    assert loss is not None
    yield from torch.autograd.grad(loss, [batch[name].policy for name in ("chosen", "rejected")])


@pytest.mark.parametrize(("name", "other", "settings"), RELATIVES, ids=lambda part: str(part))
def test_the_gradients_of_relatives_are_one(name: str, other: str, settings: Mapping[str, Any]) -> None:
    batch = make_pairs()
    ours = [*find_gradients(registry().method(name), batch, settings)]
    theirs = [*find_gradients(registry().method(other), batch, {})]
    plain = [*find_gradients(registry().method(name), batch, {})]
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their)
    assert any(not torch.allclose(our, before) for our, before in zip(ours, plain, strict=True)), "a default says it"

"""Makes batches of pairs, and computes losses, equations and their gradients on them."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from alignzoo import Batch, PairLoss, Pairs
from alignzoo.config.compose import compose
from alignzoo.plugin.batch import Answers
from alignzoo.plugin.pair_loss import Scored

FAMILY: Any = importlib.import_module("alignzoo_plugins.preference")  # by what the entry point names
ALONE = {"dpo", "ipo", "orpo"}  # their cases are in test_losses.py
METHODS = {method.name: method for method in FAMILY.METHODS if method.name not in ALONE}
OWN = sorted(name for name, method in METHODS.items() if issubclass(method, PairLoss))
TRLS = sorted(METHODS.keys() - set(OWN))


@functools.cache
def compose_method(name: str) -> DictConfig:
    return compose([f"method={name}"])


def configure(name: str, **settings: Any) -> DictConfig:
    """Return the configuration of ``method=name`` with some keys of ``method.*`` set."""
    cfg = compose_method(name).copy()
    cfg.method.update(settings)
    return cfg


def make_batch(
    chosen: Tensor | None = None, rejected: Tensor | None = None, lengths: tuple[tuple[int, int], ...] = ()
) -> Batch:
    """Return four pairs of completions; log-ratios are random, or ``chosen`` and ``rejected`` in nats, (rows,)."""
    dice = torch.Generator().manual_seed(0)
    sizes = lengths or ((3, 9), (7, 2), (12, 6), (4, 5))
    columns = {}
    for name, ratios in (("chosen", chosen), ("rejected", rejected), ("gold", None)):
        counts = torch.tensor([{"chosen": pair[0], "rejected": pair[1]}.get(name, 6) for pair in sizes])
        mask = (torch.arange(int(counts.max()))[None] < counts[:, None]).float()
        reference = -torch.rand(mask.shape, generator=dice) * mask
        shift = torch.randn(mask.shape, generator=dice) if ratios is None else (ratios / counts)[:, None]
        policy = (reference + shift * mask).requires_grad_()
        squares, draws = (torch.rand(mask.shape, generator=dice) * mask for _ in range(2))
        columns[name] = Answers(policy, reference, policy.detach(), mask, -squares, draws)
    return Batch(columns, *(torch.empty(0) for _ in range(3)), torch.tensor([0.5, 1.5, 4.0, 2.5]))


def to_pairs(method: Any, batch: Batch) -> Pairs:
    """Return what the core would hand to the loss: completions behind a prompt, with padding behind them."""

    def score(answers: Answers) -> Scored:
        parts = (answers.policy, answers.mask, answers.reference, answers.draws)
        tokens, mask, reference, draws = (torch.nn.functional.pad(part, (5, 2)) for part in parts)
        total = reference.sum(-1)
        prompt = torch.zeros_like(mask)
        total = total if method.needs_reference else torch.zeros_like(total)
        return Scored(tokens, mask, total, reference, draws, prompt, prompt)

    return Pairs(*(score(batch[name]) for name in ("chosen", "rejected", "gold")), batch.margins)


def run_loss(name: str, batch: Batch, **settings: Any) -> Tensor:
    """Return the method's loss of the batch; of TRL's losses the equation, with which they agree."""
    method, cfg = METHODS[name], configure(name, **settings)
    loss = method.loss(cfg, to_pairs(method, batch)).mean() if name in OWN else method.equation(cfg, batch)
    assert isinstance(loss, Tensor)
    return loss


def slope(loss: Tensor, batch: Batch) -> Tensor:
    """Return the gradient with respect to the log-probabilities of all tokens, as one vector."""
    sides = [batch[name] for name in ("chosen", "rejected", "gold")]
    found = torch.autograd.grad(loss, [side.policy for side in sides], allow_unused=True, materialize_grads=True)
    return torch.cat([(part * side.mask).flatten() for part, side in zip(found, sides, strict=True)])


def apart(loss: Tensor, equation: Tensor | None, batch: Batch) -> tuple[float, float]:
    """Return the distance of the losses, and that of their gradients, as `verify-losses` measures them."""
    assert equation is not None
    ours, papers = slope(loss, batch), slope(equation, batch)
    value = float((loss - equation).detach().abs() / equation.detach().abs().clamp(min=1))
    return value, float((ours - papers).norm() / papers.norm())

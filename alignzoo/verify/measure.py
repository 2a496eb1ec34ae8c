"""A method's real trainer, taken through one update's forward and backward pass, beside the paper's equation."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.method import DataFormat, Method, TrainParts
from alignzoo.verify.likelihood import make_batch, token_log_probs
from alignzoo.verify.rows import GROUP, SIZES, fixed_rows, read_rows, reward

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

LOSS_TOLERANCE = 1e-5  #: of losses below 1 in nats, of larger ones as a share: float32 keeps seven digits
GRADIENT_TOLERANCE = 1e-3  #: norm of the difference over the norm of the equation's
NOISE = 0.02  #: standard deviation of what moves each weight away: pairs' margins of a nat, small beside weights of 0.1


@dataclass(frozen=True)
class Comparison:
    """One method's loss and gradient as TRL computes them, and as its equation does."""

    trl: float
    equation: float
    gradient: float
    """Norm of the difference between the gradients with respect to all weights, over that of the equation's."""

    @property
    def loss(self) -> float:
        """Difference between the losses, absolute below 1 and relative above."""
        return abs(self.trl - self.equation) / max(1.0, abs(self.equation))

    @property
    def agrees(self) -> bool:
        """Whether both differences are within their tolerances; a NaN is not."""
        return self.loss <= LOSS_TOLERANCE and self.gradient <= GRADIENT_TOLERANCE


def has_equation(method: type[Method]) -> bool:
    """Tell whether the method brings an equation of its own."""
    own: Any = method.equation
    return own.__func__ is not Method.equation.__func__  # type: ignore[attr-defined]


def named(method: type[Method]) -> str:
    """Return the first line of the equation's docstring: paper and number."""
    return (inspect.getdoc(method.equation) or "").partition("\n")[0].rstrip(".") if has_equation(method) else ""


def overrides(method: type[Method]) -> list[str]:
    """Return the words that compose the method's own settings on a tiny model, with all rows in one batch."""
    size = SIZES[method.data]
    words = [f"method={method.name}", "model=tiny", "strategy.device=cpu", "train.precision=fp32"]
    words += [f"train.per_device_batch_size={size}", f"train.global_batch_size={size}"]
    if method.data is DataFormat.PROMPTS:  # two updates a sample: at the second, the policy is not the one that sampled
        words += [f"++method.num_generations={GROUP}", "++method.max_completion_length=24", "++method.num_iterations=2"]
    return words


def compare(method: type[Method]) -> Comparison | None:
    """Return the method's comparison, or None where its equation does not cover its settings."""
    import torch

    from alignzoo import settings
    from alignzoo.compose import composed
    from alignzoo.launch import quiet

    cfg = composed(overrides(method))
    settings.check(cfg)
    quiet(cfg)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch:
        torch.manual_seed(0)
        return _compared(method, cfg, Path(scratch))


def _compared(method: type[Method], cfg: DictConfig, scratch: Path) -> Comparison | None:
    from alignzoo import models, weights

    start = weights.start_folder(cfg.model)
    trainer = _trainer(method, cfg, start, scratch)
    reference = models.load_policy(start, cfg, "cpu", "fp32").eval()
    _move(trainer, method.data, seed=1)
    old = _plain(trainer, start, cfg)
    inputs, count = _inputs(trainer)
    if method.data is DataFormat.PROMPTS:
        _move(trainer, method.data, seed=2)
    policy = _plain(trainer, start, cfg)
    rows = read_rows(method.data, trainer.train_dataset, inputs)
    expected = method.equation(cfg, make_batch(rows, policy, reference, old))
    if expected is None:
        return None
    expected.backward()  # type: ignore[no-untyped-call]
    loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=count)
    loss.backward()
    gradients = _gradient(trainer.model), _gradient(policy)
    apart = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    return Comparison(float(loss.detach()), float(expected.detach()), apart)


def _trainer(method: type[Method], cfg: DictConfig, start: Path, scratch: Path) -> Any:
    """Return the trainer that a run would use, in training mode, on the fixed rows."""
    from alignzoo import models
    from alignzoo.arguments import trl_config

    tokenizer = models.load_tokenizer(start, cfg.model)
    model = models.load_policy(start, cfg, "cpu", "fp32")
    if method.data is DataFormat.PROMPTS:
        _end_sooner(model, tokenizer.eos_token_id)
    trainer: Any = method().build_trainer(
        TrainParts(
            cfg=cfg,
            args=trl_config(cfg, method, scratch, "cpu", "fp32"),
            model=model,
            tokenizer=tokenizer,
            train=fixed_rows(method.data, tokenizer),
            rewards=[_reward] if method.uses_rewards else [],
        )
    )
    trainer.current_gradient_accumulation_steps = 1  # these two are the training loop's
    trainer.model.train()
    return trainer

"""Compares one forward and backward pass of a method's trainer with the paper's equation."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignzoo.plugin.method import DataFormat, Method, ModelKind
from alignzoo.train.losses.likelihood import (
    add_vocabularies,
    compute_log_probs,
    decode_greedily,
    make_batch,
    make_scored_batch,
)
from alignzoo.train.losses.rows import GROUP, REWARD_WEIGHTS, REWARDS, SIZES, make_rows, read_rows, score
from alignzoo.train.losses.settings import settle

if TYPE_CHECKING:
    from datasets import Dataset
    from omegaconf import DictConfig
    from torch import Tensor

    from alignzoo.config.checked import Checked

#: The teacher of a method that learns from one: as large as `tiny`, with other random weights.
TEACHER = ("teacher=tiny", "teacher.weights_seed=1")

LOSS_TOLERANCE = 1e-5  #: of losses below 1 in nats, of larger ones as a share: float32 keeps seven digits
GRADIENT_TOLERANCE = 1e-3  #: norm of the difference over the norm of the equation's
NOISE = 0.02  #: standard deviation of what moves each weight away: pairs' margins of a nat, small beside weights of 0.1
CLIMB = 1e-3  #: step along the gradient that makes KL pairs more likely


@dataclass(frozen=True)
class Comparison:
    """One method's loss and gradient as its trainer computes them, and as its equation does."""

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


def read_source(method: type[Method]) -> str:
    """Return the first line of the equation's docstring: paper and number."""
    return (inspect.getdoc(method.equation) or "").partition("\n")[0].rstrip(".") if has_equation(method) else ""


def make_words(method: type[Method]) -> list[str]:
    """Return the words that compose the method's own settings on a tiny model, with all rows in one batch."""
    from alignzoo.config.trl_fields import read_config_fields

    size, fields = SIZES[method.data], read_config_fields(method.config)
    grouped = method.data is not DataFormat.PROMPTS or "num_generations" in fields
    size = size if grouped else size // GROUP  # one completion of each prompt
    words = [f"method={method.name}", "model=tiny", "strategy.device=cpu", "train.precision=fp32"]
    words += [f"train.per_device_batch_size={size}", f"train.global_batch_size={size}"]
    # Two steps per sample: at the second, the policy is not the one that sampled.
    sampled = {"num_generations": GROUP, "max_completion_length": 24, "num_iterations": 2}
    if samples(method):
        known = (fields.keys() | method.options if fields else sampled.keys()) - method.pinned.keys()
        words += [f"++method.{key}={value}" for key, value in sampled.items() if key in known]
    return [*words, *(TEACHER if method.uses_teacher else ())]


def samples(method: type[Method]) -> bool:
    """Tell whether the method samples completions."""
    return method.samples or method.data is DataFormat.PROMPTS


def compare(method: type[Method], words: Sequence[str] = (), cfg: DictConfig | None = None) -> Comparison | None:
    """Return the method's comparison, or None where its equation does not cover its settings.

    Args:
        method: what is compared, under its own settings.
        words: further overrides, as on the command line.
        cfg: a run's configuration, whose settings of method and loss take the place of the method's own.
    """
    import torch

    from alignzoo.config.check import check
    from alignzoo.config.compose import compose
    from alignzoo.system.libraries import silence_libraries

    tiny = compose([*make_words(method), *words])
    checked = dataclasses.replace(check(settle(tiny, tiny if cfg is None else cfg)), method=method)
    silence_libraries(checked.cfg.telemetry)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # small matrices take twice as long on two
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as scratch:
            torch.manual_seed(0)
            return _compare_losses(checked, Path(scratch))
    finally:
        torch.set_num_threads(threads)


def _compare_losses(checked: Checked, scratch: Path) -> Comparison | None:
    from alignzoo.models import load, start_model

    cfg, method = checked.cfg, checked.method
    start = start_model.start_folder(cfg.model)
    tokenizer = load.load_tokenizer(start, cfg.model)
    fixed = make_rows(method.data, tokenizer, list(method.further_columns(cfg)))
    trainer = _make_trainer(checked, start, scratch, fixed, taught := _load_teacher(checked, start, tokenizer))
    _perturb(trainer.model, tokenizer.eos_token_id, fixed, seed=1)
    old = _copy_model(trainer, checked, start)
    inputs, count = _read_inputs(trainer)
    if samples(method):
        _perturb(trainer.model, None, fixed, seed=2)
    policy = _copy_model(trainer, checked, start)
    rows = read_rows(DataFormat.PROMPTS if samples(method) else method.data, fixed, inputs, tokenizer.eos_token_id)
    if samples(method):
        _add_greedy_scores(rows, old, tokenizer.eos_token_id, cfg.method.max_completion_length)
    if method.trains is ModelKind.REWARD_MODEL:
        batch = make_scored_batch(rows, policy)
    else:
        temperature = getattr(trainer, "temperature", 1.0)  # at which it scores tokens; TRL's is that of the sampling
        batch = make_batch(rows, policy, load.load_policy(start, cfg, "fp32").eval(), old, cfg.seed, temperature)
    if taught is not None:
        batch = add_vocabularies(batch, rows, policy, taught)
    expected = method.equation(cfg, batch)
    if expected is None:
        return None
    expected.backward()  # type: ignore[no-untyped-call]
    loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=count)
    loss.backward()
    theirs, ours = _read_gradient(trainer.model), _read_gradient(policy)
    return Comparison(float(loss.detach()), float(expected.detach()), float((theirs - ours).norm() / ours.norm()))


def _load_teacher(checked: Checked, start: Path, tokenizer: Any) -> Any:
    """Return the teacher of the method's words, or None."""
    from alignzoo.models.teacher import find_teacher, load_teacher

    folder = find_teacher(checked.cfg, tokenizer)
    return folder and load_teacher(folder, checked, start)


def _make_trainer(checked: Checked, start: Path, scratch: Path, rows: Dataset, teacher: Any) -> Any:
    """Return the trainer that a run would use, in training mode, on the fixed rows."""
    from alignzoo.models import load
    from alignzoo.train.trainer import build_trainer
    from alignzoo.train.trl_config import make_trl_config

    model, tokenizer = _load_model(checked, start), load.load_tokenizer(start, checked.cfg.model)
    more: dict[str, Any] = {"reward_weights": list(REWARD_WEIGHTS)} if checked.method.uses_rewards else {}
    rewards = REWARDS if checked.method.uses_rewards else ()
    args = make_trl_config(checked, scratch, **more)
    trainer = build_trainer(checked, args, model, tokenizer, rows, rewards=rewards, teacher=teacher)
    trainer.current_gradient_accumulation_steps = 1  # the training loop sets it
    trainer.model.train()
    return trainer


def _read_inputs(trainer: Any) -> tuple[Any, Any]:
    """Return what the training loop hands to the loss: the first batch, sampled where need be, and its token count."""
    samples, count = trainer.get_batch_samples(iter(trainer.get_train_dataloader()), 1, trainer.args.device)
    return trainer._prepare_inputs(samples[0]), count


def _add_greedy_scores(rows: Sequence[dict[str, Any]], model: Any, end: int, longest: int) -> None:
    """Add what the model's greedy completion of each row's prompt is scored."""
    found = {row["group"]: row["prompt_ids"] for row in rows}
    scores = {group: score(decode_greedily(model, prompt, end, longest)) for group, prompt in found.items()}
    for row in rows:
        row["greedy_scores"] = scores[row["group"]]


def _perturb(model: Any, end: int | None, rows: Dataset, seed: int) -> None:
    """Change the policy a little, so that no term of an equation vanishes.

    ``end`` becomes likely, else all sampled completions would be of one length. KL pairs become more likely: the
    estimate is clamped at 0, and would vanish below.
    """
    import torch

    dice = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += NOISE * torch.randn(weight.shape, generator=dice)
        if "prompt" in rows.column_names and end is not None:
            model.get_input_embeddings().weight[end] *= 3
    if "KL_completion_ids" in rows.column_names:
        _raise_likelihood(model, [(row["prompt_ids"], row["KL_completion_ids"]) for row in rows])


def _raise_likelihood(model: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> None:
    """Make completions more likely, by about a nat each."""
    import torch

    total = torch.stack([compute_log_probs(model, *pair).sum() for pair in pairs]).sum()
    weights = list(model.parameters())
    with torch.no_grad():
        for weight, slope in zip(weights, torch.autograd.grad(total, weights), strict=True):
            weight += CLIMB * slope


def _load_model(checked: Checked, start: Path) -> Any:
    """Return the start model as the method trains it, of the class and with the tokenizer's pad token of a run."""
    from alignzoo.models import load, reward_model

    if checked.method.trains is not ModelKind.REWARD_MODEL:
        return load.load_policy(start, checked.cfg, "fp32")
    tokenizer = load.load_tokenizer(start, checked.cfg.model)
    eos_ids = load.read_eos_ids(start, tokenizer)
    return reward_model.load_scorer(start, tokenizer, eos_ids, checked.cfg, "fp32")


def _copy_model(trainer: Any, checked: Checked, start: Path) -> Any:
    """Return a copy of the trainer's model as transformers loads it: TRL patches its own forward pass."""
    model = _load_model(checked, start).eval()
    model.load_state_dict(trainer.model.state_dict())
    return model


def _read_gradient(model: Any) -> Tensor:
    """Return the gradient with respect to all weights, as one vector; a weight without one has 0."""
    import torch

    slopes = [torch.zeros_like(w) if w.grad is None else w.grad for _, w in sorted(model.named_parameters())]
    return torch.cat([slope.flatten() for slope in slopes])

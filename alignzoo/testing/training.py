"""Checks by short trainings that a method takes each layout, an adapter and a resume, and follows its equation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignzoo.plugin.method import Method
from alignzoo.testing.finding import NotConforming, explain_failures
from alignzoo.testing.rows import list_layouts
from alignzoo.testing.runs import Run, Weights, build, isolate_training

FAST = (
    "++method.learning_rate=1e-3",
    "train.lr_scheduler_type=constant",
)  #: a rate that moves a tiny model in a few steps

TWO_STEPS = (*FAST, "train.max_steps=2")

MEASURED = (
    "dataset.heldout.fraction=0.2",
    "evaluate.rows=4",
    "evaluate.max_new_tokens=4",
)  #: a few rows, measured as in every run

MEASURES = "every run is measured so, whatever its method: see that its rows, rewards and trained model can be."

RUNS = "see that the trainer is built from all of `parts`, and that `data` names the columns that it reads."


def check_training(method: type[Method], layout: str, folder: Path, words: Sequence[str] = ()) -> Run:
    """Refuse a method that cannot train two steps on a dataset of that layout, which it claims by its ``data``.

    Start and trained model are measured on held-out rows, with the configured rewards, as in a user's run.
    """
    with isolate_training():
        with explain_failures(method.name, f"training on {layout}", RUNS):
            run = build(method, layout, folder, [*TWO_STEPS, *MEASURED, *words])
        with explain_failures(method.name, f"measuring the start model on {layout}", MEASURES):
            before = run.measure_start()
        _train(run, f"training on {layout}")
        with explain_failures(method.name, f"measuring the trained model on {layout}", MEASURES):
            run.measure(before)
    return run


def _train(run: Run, doing: str) -> None:
    from alignzoo.train import guards

    with explain_failures(run.inputs.method.name, doing, RUNS):
        before = guards.sum_weights(run.trainer.model)
        run.trainer.train()
        guards.check_trained(run.trainer, before)


def check_adapter(method: type[Method], folder: Path, words: Sequence[str] = ()) -> None:
    """Refuse a method that does not train LoRA, or moves the frozen weights below it."""
    import torch
    from peft import PeftModel

    fix = 'hand parts.peft_config to the trainer, as the default `trainer_arguments` does under "peft_config".'
    layout = list_layouts(method.data)[0]
    with isolate_training():
        with explain_failures(method.name, f"training an adapter on {layout}", RUNS):
            run = build(method, layout, folder, [*TWO_STEPS, "peft=lora", *words])
        _train(run, f"training an adapter on {layout}")
    if not isinstance(run.trainer.model, PeftModel):
        raise NotConforming(method.name, "peft=lora trains all weights: the trainer's model has no adapter", fix)
    frozen = {
        name.replace(".base_layer.", "."): weight for name, weight in _read_base_weights(run.trainer.model).items()
    }
    moved = [name for name, weight in frozen.items() if name in run.start and not torch.equal(weight, run.start[name])]
    if moved:
        raise NotConforming(method.name, f"peft=lora moves {len(moved)} frozen weights, {moved[0]} first", fix)


def _read_base_weights(model: Any) -> Weights:
    weights: Weights = model.get_base_model().state_dict()
    return weights


def check_resuming(method: type[Method], folder: Path, words: Sequence[str] = ()) -> None:
    """Refuse a method that ends with other weights when it is resumed from a checkpoint.

    The check is TRL's own ``trainer.train(resume_from_checkpoint=...)``, within one epoch.
    """
    import torch

    saving = ["train.max_steps=4", "train.save_strategy=steps", "train.save_steps=2", "train.save_total_limit=2"]
    layout = list_layouts(method.data)[0]
    fix = "save with the checkpoint whatever the trainer keeps beside model, optimizer and random state."
    with explain_failures(method.name, "resuming from a checkpoint", fix), isolate_training():
        whole = build(method, layout, folder, [*FAST, *saving, *words])
        whole.trainer.train()
        expected = whole.weights
        resumed = build(method, layout, folder, [*FAST, *saving, *words])
        resumed.trainer.train(resume_from_checkpoint=str(folder / "checkpoints" / "checkpoint-2"))
    found = resumed.weights
    apart = [name for name, weight in expected.items() if not torch.equal(weight, found[name])]
    if apart:
        wrong = f"resumed after 2 of 4 steps, {len(apart)} weights differ from an uninterrupted run's, {apart[0]} first"
        raise NotConforming(method.name, wrong, fix)


def check_division(method: type[Method], folder: Path, words: Sequence[str] = ()) -> str | None:
    """Refuse a method whose ``mean_of_rows`` is wrong; return why it cannot be checked, or None.

    It trains a step by plain gradient descent, in one batch, and divided by ``train.per_device_batch_tokens``.
    """
    import torch

    from alignzoo.train.batches import bound_batches

    one = ["train.max_steps=1", "train.optim=sgd", "++method.learning_rate=0.1", "train.lr_scheduler_type=constant"]
    layout = list_layouts(method.data)[0]
    fix = "let `mean_of_rows` return False where a batch's loss is more than the mean of its rows'."
    with explain_failures(method.name, "dividing a step", fix), isolate_training():
        whole = build(method, layout, folder, [*one, *words])
        if not method.mean_of_rows(whole.inputs.cfg):
            return "mean_of_rows does not say that the loss is the mean of its rows'"
        whole.trainer.train()
        moved = {name: weight - whole.start[name] for name, weight in whole.weights.items()}
        divided = build(method, layout, folder, [*one, "train.per_device_batch_tokens=1", *words])
        bound_batches(divided.inputs.cfg, divided.trainer)
        divided.trainer.train()
    apart = torch.stack([(divided.weights[name] - divided.start[name] - step).norm() for name, step in moved.items()])
    share = float(apart.norm() / torch.stack([step.norm() for step in moved.values()]).norm())
    if not share < 1e-3:
        wrong = f"a step row by row differs by {share:.1%} from the same rows in one batch"
        raise NotConforming(method.name, wrong, fix)
    return None


def check_equation(method: type[Method]) -> str | None:
    """Refuse a trainer whose loss is not that of ``equation``; return why it cannot be checked, or None."""
    from alignzoo.train.losses.compare import compare, has_equation
    from alignzoo.train.losses.independence import find_shared

    if not has_equation(method):
        return "the method gives no equation: see `alignzoo verify-losses`"
    shared = find_shared(method)
    if shared:
        fix = "write the equation anew, from the paper: comparing a function with itself shows nothing."
        raise NotConforming(method.name, shared, fix)
    with explain_failures(method.name, "equation", "fix the equation; `verify-losses` runs it alone."):
        found = compare(method)
    if found is None:
        return "the equation does not cover the method's own settings"
    if not found.agrees:
        losses = f"the trainer's loss is {found.trl:.6f}, the equation's {found.equation:.6f}"
        wrong = f"{losses}, and their gradients {found.gradient:.1e} apart"
        fix = "fix the equation, written from the paper; or `loss` or `pinned`, if the trainer computes another loss."
        raise NotConforming(method.name, wrong, fix)
    return None

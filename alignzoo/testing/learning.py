"""Checks that a method learns: to tell chosen from rejected completions, or to earn a simple reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alignzoo.plugin.method import DataFormat, Method
from alignzoo.testing.finding import NotConforming, explain_failures
from alignzoo.testing.runs import Run, build, isolate_training
from alignzoo.testing.training import FAST, RUNS

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 24  #: steps within which a method must learn them

#: Logged rewards below it are those of a policy that equals its reference, but for the last digits of a sum. Without a
#: reference a reward is a share of a completion's log-probability, which is whole nats.
ZERO = 1e-3

#: Nats by which the chosen completion must come ahead of the rejected one in :data:`STEPS`.
MARGIN = 0.5

#: By how much the mean reward, of 0 to 1, must rise between the first and the last eighth of the steps.
#: GRPO's rose by 0.45, with a standard deviation of 0.03 over four seeds. Where each completion got another's reward,
#: it fell by 0.15 (0.07); with the sign reversed, by 0.45 (0.02).
RISE = 0.2

#: A sampled reward says less than a pair: many completions per step, and a rate that would wreck a real model. With
#: 16 per step, the last digits of a sum, which differ between processors, decided how far a right method got.
SAMPLED = (
    "train.global_batch_size=128",
    "train.per_device_batch_size=128",
    "train.max_steps=16",
    "++method.learning_rate=1e-2",
)


def train_on_separable(method: type[Method], folder: Path, words: Sequence[str] = ()) -> Run:
    """Return a run on pairs that differ in the same words (:data:`STEPS`), or sampled completions (:data:`SAMPLED`)."""
    layout = "prompts" if method.data is DataFormat.PROMPTS else "pairs-of-messages"
    more = SAMPLED if method.uses_rewards else ()
    with explain_failures(method.name, f"training on {layout}", RUNS), isolate_training():
        run = build(method, layout, folder, [*FAST, f"train.max_steps={STEPS}", *more, *words])
        run.trainer.train()
    return run


def check_gradient(method: type[Method], run: Run) -> None:
    """Refuse a loss that does not move every weight."""
    import torch

    after = run.weights
    still = [name for name, weight in run.start.items() if name in after and torch.equal(weight, after[name])]
    if len(still) == len(run.start):
        fix = "see that the loss is not detached or computed under torch.no_grad(), and that its data are not empty."
        raise NotConforming(method.name, f"{len(run.losses)} steps moved no weight: the loss has no gradient", fix)
    if still:
        fix = "see that the loss depends on the model's output alone, and that no part of the model is frozen."
        raise NotConforming(method.name, f"{len(still)} weights never move, {still[0]} first", fix)


def check_learning(method: type[Method], run: Run, ranks: bool = True, falls: bool = True) -> None:
    """Refuse a method whose loss does not fall where it ``falls``, or, where it ``ranks``, that prefers the rejected.

    For a method that learns from rewards, the reward must rise: its loss says little.
    """
    if method.uses_rewards:
        _check_rewards(method, run.rewards)
    else:
        _check_preference(method, run, ranks, falls)


def _check_preference(method: type[Method], run: Run, ranks: bool, falls: bool) -> None:
    first, last = _average_ends(run.losses, 4)
    if falls and not last < first:
        fix = "look at the sign of the loss, and whether chosen and rejected (or the labels) are swapped."
        raise NotConforming(method.name, f"the loss rises from {first:.4f} to {last:.4f} on a separable set", fix)
    margin = _measure_margin(run) if ranks else None
    if margin is not None and not margin > MARGIN:
        fix = (
            "swap chosen and rejected (or the labels) back, or see whether the loss ignores the completions. A method "
            "that cannot rank them says so: conformance(..., ranks=False)."
        )
        wrong = (
            f"{STEPS} steps bring the chosen completion {margin:+.2f} nats ahead of the rejected, on a separable set"
        )
        raise NotConforming(method.name, wrong, fix)


def _check_rewards(method: type[Method], rewards: list[float]) -> None:
    if not rewards:
        fix = 'hand them to the trainer: `trainer_arguments` returns {..., "reward_funcs": list(parts.rewards)}.'
        raise NotConforming(method.name, "uses_rewards is True, and the trainer never asks for a reward", fix)
    first, last = _average_ends(rewards, 8)
    if not last > first + RISE:
        fix = "look at the sign of the advantages, and whether each completion gets its own reward."
        raise NotConforming(method.name, f"the mean reward goes from {first:.3f} to {last:.3f}, and should rise", fix)


def _average_ends(values: Sequence[float], parts: int) -> tuple[float, float]:
    """Return the means of the first and of the last of so many equal parts."""
    size = max(1, len(values) // parts)
    return sum(values[:size]) / size, sum(values[-size:]) / size


def _measure_margin(run: Run) -> float | None:
    """Return the gain of chosen over rejected completions, in nats; None without pairs, or without a vocabulary."""
    import torch

    from alignzoo.models import load
    from alignzoo.train.losses.likelihood import compute_log_probs

    rows = [row for row in run.inputs.data.train if row.get("chosen_ids")][:4]
    if run.trainer.model.get_output_embeddings() is None or not rows:
        return None
    model = load.load_policy(run.inputs.start, run.inputs.cfg, "fp32").eval()  # TRL patches the trainer's own

    def margins() -> Tensor:
        ahead = [
            compute_log_probs(model, row["prompt_ids"], row["chosen_ids"]).sum()
            - compute_log_probs(model, row["prompt_ids"], row["rejected_ids"]).sum()
            for row in rows
        ]
        return torch.stack(ahead)

    with torch.no_grad():
        before = margins()
        model.load_state_dict(run.weights)
        return float((margins() - before).mean())


def check_reference(method: type[Method], run: Run) -> None:
    """Refuse ``needs_reference`` where the first logged rewards, 0 under a reference that is the policy, say otherwise.

    That they are 0 where it is declared is checked in every run (:class:`alignzoo.train.guards.FirstLoss`).
    """
    first = run.trainer.state.log_history[0]
    rewards = [float(first[key]) for key in ("rewards/chosen", "rewards/rejected") if key in first]
    if rewards and not method.needs_reference and all(abs(reward) < ZERO for reward in rewards):
        fix = "set needs_reference = True: the first rewards are then checked in every run."
        raise NotConforming(method.name, "the first rewards are 0, as under a reference, and none is declared", fix)


def check_first_loss(method: type[Method], run: Run) -> None:
    """Refuse a ``first_loss`` other than the loss of the first step."""
    expected = method.first_loss(run.inputs.cfg)
    if expected is not None and abs(run.losses[0] - expected) > 1e-3 * max(1.0, abs(expected)):
        fix = "correct first_loss; None, where nothing follows from the formula."
        raise NotConforming(method.name, f"the first loss is {run.losses[0]:.4f}, first_loss {expected:.4f}", fix)

"""Stops a run that goes wrong silently, with what was seen and the likely cause."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from alignzoo.system.errors import UserError

if TYPE_CHECKING:
    from alignzoo.runs.watch import FolderWatch

log = logging.getLogger(__name__)

CONSTANT_STEPS = 10  #: logged steps without any difference between rewards before the run is stopped


class FolderThere(TrainerCallback):
    """A run folder that was removed ends the run at once: what comes is written into half a folder."""

    def __init__(self, watch: FolderWatch) -> None:
        self.watch = watch

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look before a checkpoint brings the folder back."""
        if state.is_world_process_zero:
            self.watch.check()


class FirstLoss(TrainerCallback):
    """While policy and reference are equal, the first loss follows from the formula and the rewards are zero."""

    def __init__(self, expected: float | None, has_reference: bool, precision: str) -> None:
        self.expected, self.has_reference, self.seen = expected, has_reference, False
        self.tolerance = 0.02 if precision == "fp32" else 0.1  # bf16 rounds sums of hundreds of terms

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Look at the first training line only."""
        if self.seen or not logs or "loss" not in logs or state.global_step > 1:
            return
        self.seen = True
        loss = float(logs["loss"])
        if self.expected is not None and abs(loss - self.expected) > self.tolerance * max(self.expected, 0.1):
            raise UserError(
                f"the first loss is {loss:.4f}; with the start model as reference it must be {self.expected:.4f}.\n"
                "The reference is not the model that training started from: check model.path and the adapter."
            )
        rewards = [float(logs[key]) for key in ("rewards/chosen", "rewards/rejected") if key in logs]
        if self.has_reference and any(abs(reward) > self.tolerance for reward in rewards):
            raise UserError(f"the first rewards are {rewards}; with the start model as reference they must be 0.")


class Finite(TrainerCallback):
    """A loss or gradient that is not finite ends the run at once: every later weight would be NaN."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Look at loss and gradient norm."""
        for key in ("loss", "grad_norm"):
            value = (logs or {}).get(key)
            if value is not None and not math.isfinite(float(value)):
                raise UserError(
                    f"{key} is {value} at step {state.global_step}: the weights are lost from here on.\n"
                    "Lower method.learning_rate, or use train.precision=fp32 to see whether precision is the cause."
                )


class RewardsDiffer(TrainerCallback):
    """Groups whose completions all have the same reward teach nothing.

    A run that never saw a difference is stopped. One whose rewards differed before may have solved its task, or
    collapsed: it continues, with a warning.
    """

    def __init__(self) -> None:
        self.constant = 0
        self.first: float | None = None  # the mean reward when groups first differed

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run."""
        return {"constant": self.constant, "first": self.first}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.constant, self.first = state["constant"], state["first"]

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Count lines in which no group had a difference."""
        if not logs or "frac_reward_zero_std" not in logs:
            return
        if float(logs["frac_reward_zero_std"]) < 1:
            self.constant = 0
            self.first = float(logs["reward"]) if self.first is None else self.first
            return
        self.constant += 1
        if self.constant == CONSTANT_STEPS:
            self._report(float(logs["reward"]), state)

    def _report(self, reward: float, state: Any) -> None:
        same = f"in {CONSTANT_STEPS} logged steps all completions of each group had the same reward ({reward:g})"
        if self.first is None:
            raise UserError(
                f"{same}: nothing is learned.\n"
                "Check the reward on a few completions, raise method.temperature, or take easier prompts."
            )
        if state.is_world_process_zero:
            log.warning(
                "%s, which was %g when they first differed. The task is solved if no reward is higher; else the policy "
                "has settled on one kind of completion. Nothing more is learned.",
                same,
                self.first,
            )


def sum_weights(model: Any) -> dict[str, float]:
    """Return a sum of each weight that trains, to tell afterwards whether it moved."""
    return {name: _sum_weight(weight) for name, weight in model.named_parameters() if weight.requires_grad}


def _sum_weight(weight: Any) -> float:
    """Sum a weight, all of it: FSDP and ZeRO-3 leave each process a share."""
    if hasattr(weight, "full_tensor"):
        return float(weight.detach().full_tensor().double().sum())
    if hasattr(weight, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([weight]):
            return float(weight.detach().double().sum())
    return float(weight.detach().double().sum())


def check_trained(trainer: Any, before: dict[str, float]) -> None:
    """Refuse a run that "finished" without a step, without moving a weight, or with weights that are not finite."""
    if trainer.state.global_step == 0:
        raise UserError(
            "training ended without one step: there are fewer rows than one batch needs.\n"
            "Lower train.global_batch_size (for grpo also method.num_generations), or take more rows."
        )
    after = sum_weights(trainer.model)
    broken = [name for name, value in after.items() if not math.isfinite(value)]
    if broken:
        raise UserError(
            f"{len(broken)} weights are NaN or infinite after training, {broken[0]} first. Lower method.learning_rate."
        )
    names = before.keys() & after.keys()
    if names and all(before[name] == after[name] for name in names):
        raise UserError(
            f"{trainer.state.global_step} steps moved no weight: method.learning_rate={trainer.args.learning_rate} is "
            "too small for this precision, or the loss has no gradient."
        )

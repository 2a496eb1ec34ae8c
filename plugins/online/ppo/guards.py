"""Stops PPO where it is lost, and says where it learns nothing."""

from __future__ import annotations

import logging

from torch import Tensor

from alignzoo import UserError

log = logging.getLogger(__name__)

CONSTANT_ROLLOUTS = 5  #: batches of rollouts in a row, all of one score, before it is said


def require_finite(step: int, **numbers: Tensor) -> None:
    """Look at what an update is computed from; each is named by its keyword.

    Raises:
        UserError: one of them is NaN or infinite.
    """
    for name, tensor in numbers.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(
                f"ppo: {name.replace('_', ' ')} became NaN or infinite at step {step}.\n"
                "Lower method.learning_rate or method.value_learning_rate, or use train.precision=fp32."
            )


class ConstantScores:
    """Says once that all answers have had the same score for some time: only the KL penalty is then learned from."""

    def __init__(self) -> None:
        self.rollouts = 0

    def look(self, scores: Tensor) -> None:
        """Count a batch of rollouts, whose answers' scores are (answers,)."""
        self.rollouts = self.rollouts + 1 if bool((scores == scores[0]).all()) else 0
        if self.rollouts == CONSTANT_ROLLOUTS:
            log.warning(
                "the last %d x %d answers all had the score %g: ppo learns nothing from it. Check the reward on a few "
                "answers, raise method.temperature, or take other prompts.",
                self.rollouts,
                len(scores),
                float(scores[0]),
            )

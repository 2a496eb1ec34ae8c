"""AdaRFT's curriculum on TRL's GRPOTrainer: prompts as difficult as the policy can just about solve.

Shi et al., 2025, "Efficient Reinforcement Finetuning via Adaptive Curriculum Learning",
https://arxiv.org/abs/2504.05520, algorithm 1.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from alignzoo import UserError

from .scored import Batch, ScoredTrainer

SENSITIVITY = 2.0  #: alpha of the paper's section 4
STEP = 0.5  #: eta, as a share of the range: the paper's 50 of 0 to 100


class TargetDifficulty(TrainerCallback):
    """The difficulty that prompts should have, and how often each was drawn; a part of the checkpoint."""

    def __init__(self, difficulties: Sequence[float], goal: float) -> None:
        """``difficulties``: of each row; ``goal``: the mean reward at which the target stays."""
        self.difficulties, self.goal = list(difficulties), goal
        self.low, self.high = min(difficulties), max(difficulties)
        self.value = self.low
        self.drawn = [0] * len(self.difficulties)

    def move(self, reward: float) -> None:
        """Raise the target after a mean ``reward`` above the goal, lower it below; the paper's update."""
        change = STEP * (self.high - self.low) * math.tanh(SENSITIVITY * (reward - self.goal))
        self.value = min(max(self.value + change, self.low), self.high)

    def pick(self, count: int, seed: str, last: Collection[int] = ()) -> list[int]:
        """Return ``count`` places of rows, those nearest to the target; of equally near ones those drawn least.

        Rows in ``last`` come behind all others. ``seed`` decides between equals.
        """
        chance = random.Random(seed)
        order = sorted(
            range(len(self.difficulties)),
            key=lambda row: (row in last, abs(self.difficulties[row] - self.value), self.drawn[row], chance.random()),
        )
        picked = [order[turn % len(order)] for turn in range(count)]
        for row in picked:
            self.drawn[row] += 1
        return picked

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"value": self.value, "drawn": list(self.drawn)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of the run that was stopped."""
        self.value, self.drawn = state["value"], list(state["drawn"])


class Curriculum(ScoredTrainer):
    """Each batch is of the prompts nearest to a target difficulty; put before a trainer, and before DynamicSampling."""

    column = ""
    goal = 0.5
    train_dataset: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As the trainer.

        Raises:
            UserError: as :func:`read_difficulties`.
        """
        super().__init__(*args, **kwargs)
        self.target = TargetDifficulty(read_difficulties(self.train_dataset, self.column), self.goal)
        self.add_callback(self.target)
        self.first: Tensor | None = None
        self.used: set[int] = set()

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """Put the curriculum's prompts in the place of those that came, and move the target by what they earn."""
        if not self.model.training:
            evaluated: Batch = super()._generate_and_score_completions(inputs)
            return evaluated
        self.first, self.used = None, set()
        rows = self._pick(self.count_groups(len(inputs), f"method.curriculum={self.column}"), "batch")
        repeated = [dict(self.train_dataset[row]) for row in rows for _ in range(self.num_generations)]
        batch: Batch = super()._generate_and_score_completions(repeated)
        target = self.target.value
        self.target.move(self._average_first())
        facts = {
            "target": target,
            "difficulty": sum(self.target.difficulties[row] for row in rows) / len(rows),
            "prompts": sum(times > 0 for times in self.target.drawn),
        }
        device = self.accelerator.device
        self.note(**{f"curriculum__{name}": torch.tensor(float(fact), device=device) for name, fact in facts.items()})
        return batch

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        """Keep what the curriculum's own prompts earned: others may be sampled after them."""
        scores: Tensor = super()._calculate_rewards(*args, **kwargs)
        if self.first is None:
            self.first = scores
        return scores

    def _average_first(self) -> float:
        """Return the mean reward of the curriculum's own prompts, of all processes."""
        assert self.first is not None
        return float((self.first * self.reward_weights.to(self.first.device)).nansum(dim=1).mean())

    def _pick(self, count: int, purpose: str) -> list[int]:
        """Return the places of this process's ``count`` rows; all processes pick together, and none the same."""
        rank, size = self.accelerator.process_index, self.accelerator.num_processes
        seed = f"{self.args.seed} {self._step} {self.state.global_step} {purpose}"
        picked = self.target.pick(size * count, seed, self.used)
        self.used |= {*picked}
        return picked[rank * count : (rank + 1) * count]

    def _draw(self, count: int, number: int, seen: Collection[Any]) -> list[Mapping[str, Any]]:
        """Dynamic sampling's further prompts: near the target too."""
        return [self.train_dataset[row] for row in self._pick(count, str(number))]


def read_difficulties(rows: Any, column: str) -> list[float]:
    """Return each row's difficulty, of the dataset's column.

    Raises:
        UserError: the column is missing, a row has no number in it, or all rows have the same number.
    """
    said = f"method.curriculum={column}:"
    if column not in rows.column_names:
        others = sorted({*rows.column_names} - {"prompt", "id", "prompt_ids"})
        raise UserError(f"{said} the rows to train on have no such column, only {', '.join(others) or 'the prompt'}.")
    found: list[float] = []
    for place, value in enumerate(rows[column], 1):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{said} row {place} to train on has {value!r}; each needs a number, larger where harder.")
        found.append(float(value))
    if min(found) == max(found):
        raise UserError(f"{said} all rows to train on have {found[0]:g}: there is nothing to choose by.")
    return found

"""Trains GKD on TRL's DistillationTrainer: on completions of the data too, each averaged by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from trl import DistillationTrainer

from .scores import compute_divergences, count_rows, score_completions


class GKDTrainer(DistillationTrainer):
    """TRL's, with algorithm 1 of Agarwal et al., 2024: a step's completions are sampled with probability ``lmbda``."""

    lmbda: float = 1.0

    _signature_columns: list[str] | None
    _given: list[list[int]] | None = None  # the completions of the data, in a step that does not sample

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = ["input_ids", "labels"]

    # patch: trl DistillationTrainer._generate_and_score_completions
    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the step's completions: sampled ones, or the data's."""
        rows = [_split_row(row) for row in inputs]
        self._given = None if self._samples_now() else [completion for _, completion in rows]
        made: dict[str, Any] = super()._generate_and_score_completions([{"prompt": prompt} for prompt, _ in rows])
        return made

    def _samples_now(self) -> bool:
        """Draw whether this step samples: the same on every process, and after resuming."""
        return bool(np.random.default_rng([self.args.seed, self.state.global_step]).random() < self.lmbda)

    # patch: trl DistillationTrainer._tokenize_prompts
    def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Return the prompts as they are: the rows hold token ids."""
        return prompts, None, {}

    # patch: trl DistillationTrainer._generate_single_turn
    def _generate_single_turn(self, prompt_ids: list[list[int]], *more: Any, **rest: Any) -> list[list[int]]:
        if self._given is not None:
            return self._given
        sampled: list[list[int]] = super()._generate_single_turn(prompt_ids, *more, **rest)
        return sampled

    # patch: trl DistillationTrainer._compute_loss
    def _compute_loss(self, student: Any, inputs: Any, num_items_in_batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean over rows of their tokens' mean divergence; for the log, the entropy's sum and the tokens."""
        mask = inputs["completion_mask"]
        divergence, entropy = compute_divergences(
            *score_completions(self, student, inputs), self.beta, self.temperature
        )
        means = (divergence * mask).sum(-1) / mask.sum(-1)
        return means.sum() / count_rows(self, inputs), (entropy * mask).sum().detach(), mask.sum()


def _split_row(row: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return the token ids of a supervised row's prompt and of its completion."""
    start = sum(label == -100 for label in row["labels"])
    return row["input_ids"][:start], row["input_ids"][start:]

"""ReMax's baseline and loss on TRL's GRPOTrainer."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from .scored import Batch, ScoredTrainer


class ReMaxTrainer(ScoredTrainer):
    """The policy gradient, with the reward of the greedy completion as the baseline."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Batch:
        """Replace TRL's advantages by the reward, less the KL penalty, less what the greedy completion earns."""
        batch: Batch = super()._generate_and_score_completions(inputs)
        rewards = self.read_rewards(len(inputs)) - self.beta * self.estimate_kl(batch).sum(dim=1)
        baseline = self._score_greedily(inputs)
        self.note(baseline=baseline.mean())
        return {**batch, "advantages": rewards - baseline}

    def _score_greedily(self, inputs: list[dict[str, Any]]) -> Tensor:
        """Return the reward of the greedy completion of each row's prompt, (rows,); one is decoded for each group."""
        group = self.num_generations if self.model.training else self.num_generations_eval
        rows = inputs[::group]
        prompts = [row["prompt"] for row in rows]
        with self._decode_greedily():
            ids, _ = self._generate_single_turn(*self._tokenize_prompts(copy.deepcopy(prompts)), 1)
        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        turns = [text if isinstance(prompts[0], str) else [{"role": "assistant", "content": text}] for text in texts]
        scores = GRPOTrainer._calculate_rewards(self, rows, prompts, turns, ids)
        first = self.accelerator.process_index * len(rows)
        weighed: Tensor = (scores * self.reward_weights.to(scores.device)).nansum(dim=1)[first : first + len(rows)]
        return weighed.repeat_interleave(group)

    @contextmanager
    def _decode_greedily(self) -> Iterator[None]:
        """Take the likeliest token each time, in place of sampling."""
        config, arguments = self.generation_config, self.generation_kwargs
        self.generation_config = copy.deepcopy(config)
        self.generation_config.update(do_sample=False, temperature=None, top_p=None, top_k=None, min_p=None)
        self.generation_kwargs = self.generation_config.to_dict()
        try:
            yield
        finally:
            self.generation_config, self.generation_kwargs = config, arguments

    def _compute_loss(self, model: Any, inputs: Batch) -> Tensor:
        """Return the loss of Li et al., 2023, algorithm 1: a completion's log-probability, weighed by its advantage."""
        policy, entropy = self.score_tokens(model, inputs, entropy=True)
        mask = inputs["completion_mask"]
        tokens = mask.sum().clamp(min=1)
        self.note(entropy=torch.zeros(()) if entropy is None else (entropy * mask).sum() / tokens)
        loss: Tensor = -((policy * mask).sum(dim=1) * inputs["advantages"]).mean()
        return loss / self.parts

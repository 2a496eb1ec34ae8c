"""A trainer on TRL's sampling and scoring whose subclasses make advantages and losses of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from alignzoo import UserError

Batch = dict[str, Any]


class ScoredTrainer(GRPOTrainer):
    """TRL's GRPOTrainer, which remembers each completion's reward and scores a batch's tokens."""

    beta: float
    generation_config: Any
    generation_kwargs: dict[str, Any]

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        """Keep what the rewards give, (completions of all processes, functions)."""
        scores: Tensor = super()._calculate_rewards(*args, **kwargs)
        self.scores = scores
        return scores

    def count_groups(self, completions: int, option: str) -> int:
        """Return the groups of this process's ``completions``, for an ``option`` that needs whole ones.

        Raises:
            UserError: this process holds a part of a group.
        """
        groups: int = completions // self.num_generations
        if completions % self.num_generations:
            raise UserError(
                f"{option}: each process must sample whole groups, and has {completions} completions: a multiple of "
                f"method.num_generations={self.num_generations} is needed."
            )
        return groups

    def read_rewards(self, count: int) -> Tensor:
        """Return the weighted rewards of this process's latest ``count`` completions, (count,)."""
        first = self.accelerator.process_index * count
        weighed: Tensor = (self.scores * self.reward_weights.to(self.scores.device)).nansum(dim=1)
        return weighed[first : first + count]

    def score_tokens(self, model: Any, batch: Batch, entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return each completion token's log-probability, and the entropy where it is asked for, (rows, tokens)."""
        found = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].shape[1],
            self.args.per_device_train_batch_size,
            compute_entropy=entropy,
        )
        return found[0], found[1]

    def score_sampled(self, batch: Batch) -> Tensor:
        """Return the log-probabilities under the policy that sampled, without gradient; TRL leaves out what it can."""
        if "old_per_token_logps" not in batch:
            with torch.no_grad():
                batch["old_per_token_logps"], _ = self.score_tokens(self.model, batch)
        old: Tensor = batch["old_per_token_logps"]
        return old

    def estimate_kl(self, batch: Batch) -> Tensor:
        """Return log(policy / start model) of each sampled token, 0 behind the end and without a penalty."""
        if self.beta == 0:
            return torch.zeros_like(batch["completion_mask"], dtype=torch.float32)
        kl: Tensor = (self.score_sampled(batch) - batch["ref_per_token_logps"]) * batch["completion_mask"]
        total = self.accelerator.reduce(torch.stack([kl.sum(), batch["completion_mask"].sum()]), reduction="sum")
        self.note(kl=total[0] / total[1].clamp(min=1))
        return kl

    def note(self, **numbers: Tensor) -> None:
        """Add to the metrics, of which the next logged line shows the means."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, number in numbers.items():
            metrics[name.replace("__", "/")].append(float(self.accelerator.gather(number.detach().float()).mean()))

    @property
    def parts(self) -> float:
        """Micro-batches of an update, by which a loss is divided."""
        return float(self.current_gradient_accumulation_steps) if self.model.training else 1.0
